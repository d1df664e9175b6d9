//! Frames on a connection: a length (`u32`, little endian) and so many bytes of JSON.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest frame between processes that know each other: a cut of many partitions.
pub(super) const FRAME_BYTES_MAX: usize = 64 << 20;
/// The longest frame from a stranger.
pub(super) const HELLO_BYTES_MAX: usize = 16 << 10;

/// Writes one frame.
pub(super) fn write(stream: &mut TcpStream, frame: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(frame)?;
    let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    stream.write_all(&bytes)
}

/// Reads one frame; each read may wait as long as the stream's read timeout says.
pub(super) fn read<T: DeserializeOwned>(stream: &mut TcpStream) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut body = vec![0; checked(u32::from_le_bytes(length), FRAME_BYTES_MAX)?];
    stream.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

/// Reads the frame of a stranger, which must be there by `deadline` as a whole. Gives its bytes, too.
pub(super) fn read_by<T: DeserializeOwned>(
    stream: &mut TcpStream,
    deadline: Instant,
) -> io::Result<(T, Vec<u8>)> {
    let mut length = [0; 4];
    fill(stream, &mut length, deadline)?;
    let mut body = vec![0; checked(u32::from_le_bytes(length), HELLO_BYTES_MAX)?];
    fill(stream, &mut body, deadline)?;
    Ok((serde_json::from_slice(&body)?, body))
}

fn checked(length: u32, most: usize) -> io::Result<usize> {
    let length = length as usize;
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, "a frame that is too long");
    (length <= most).then_some(length).ok_or_else(too_long)
}

fn fill(stream: &mut TcpStream, mut bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => bytes = &mut bytes[read..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
