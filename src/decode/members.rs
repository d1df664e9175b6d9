//! The keys that documents are expected to have: those on the job's pointers, and those met so far.
//!
//! Documents of a topic look alike. Each known key remembers which key followed it last time, so that
//! most keys of a document are recognised by one comparison, without a search; and since known keys
//! differ from each other, a stamp per key tells whether an object holds it twice. Keys beyond the
//! bounds below are never learnt; they are compared with each other when their object closes.

use crate::job::Pointer;

/// Keys that a node learns besides the wanted ones.
const LEARNT_MAX: u16 = 64;
/// Longer keys are data, not names.
const LEARNT_BYTES_MAX: usize = 64;
/// Nodes in all.
const NODES_MAX: usize = 256;

/// What is known of the keys of all objects of a document: a tree of nodes, the first one for the
/// document itself.
#[derive(Debug)]
pub(super) struct Members {
    nodes: Vec<Node>,
}

/// Index of a node.
pub(super) type NodeIndex = u16;

/// Index of a cell of the extractor.
pub(super) type CellIndex = u16;

/// The cell of all values that nobody wants.
pub(super) const UNWANTED: CellIndex = 0;

/// One object's keys.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) members: Vec<Member>,
    /// The member that stood first last time.
    pub(super) first: u16,
    learnt: u16,
}

/// One key of an object.
#[derive(Debug)]
pub(super) struct Member {
    /// The key as it is written in JSON, with its quotes and the colon.
    pub(super) written: Written,
    key: Box<str>,
    /// What is to be done with its value.
    pub(super) slot: Slot,
    /// The member that followed last time.
    pub(super) next: u16,
    /// Stamp of the object that held it last.
    pub(super) seen: u64,
}

/// What is to be done with a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// The cell that takes it.
    pub(super) cell: CellIndex,
    /// Who knows its keys, if it is an object.
    pub(super) below: Below,
}

/// Who knows the keys of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Below {
    /// A node.
    Node(NodeIndex),
    /// Nobody yet: the first object under this member gets a node.
    Unknown,
    /// Nobody.
    Nobody,
}

impl Slot {
    /// The slot of a value of which nothing is known.
    pub(super) const STRAY: Slot = Slot { cell: UNWANTED, below: Below::Nobody };
    const MEMBER: Slot = Slot { cell: UNWANTED, below: Below::Unknown };
}

impl Members {
    pub(super) const ROOT: NodeIndex = 0;

    pub(super) fn new() -> Self {
        Members { nodes: vec![Node::default()] }
    }

    /// Adds the path of `pointer`; its value is to go to `cell`, or to the cell that takes it already.
    pub(super) fn want(&mut self, pointer: &Pointer, cell: CellIndex) -> CellIndex {
        let Some((last, path)) = pointer.0.split_last() else {
            return cell;
        };
        let mut node = Self::ROOT;
        for token in path {
            let member = self.wanted_member(node, token);
            node = match self.node(node).members[member].slot.below {
                Below::Node(below) => below,
                Below::Unknown | Below::Nobody => self.add_node(node, member),
            };
        }
        let member = self.wanted_member(node, last);
        let slot = &mut self.node_mut(node).members[member].slot;
        if slot.cell == UNWANTED {
            slot.cell = cell;
        }
        slot.cell
    }

    /// The member of `node` with this key, its escapes resolved.
    pub(super) fn find(&self, node: NodeIndex, key: &str) -> Option<usize> {
        self.node(node).members.iter().position(|member| *member.key == *key)
    }

    /// Takes in a key that `node` does not know, if the bounds allow it.
    pub(super) fn learn(&mut self, node: NodeIndex, key: &str) -> Option<usize> {
        let node = self.node_mut(node);
        if node.learnt == LEARNT_MAX || key.len() > LEARNT_BYTES_MAX {
            return None;
        }
        node.learnt += 1;
        Some(node.add(key))
    }

    /// Gives the object under a member of `node` a node, if the bounds allow it.
    pub(super) fn learn_node(&mut self, node: NodeIndex, member: usize) -> Below {
        if self.nodes.len() < NODES_MAX {
            Below::Node(self.add_node(node, member))
        } else {
            self.node_mut(node).members[member].slot.below = Below::Nobody;
            Below::Nobody
        }
    }

    #[inline(always)]
    pub(super) fn node(&self, node: NodeIndex) -> &Node {
        &self.nodes[usize::from(node)]
    }

    #[inline(always)]
    pub(super) fn node_mut(&mut self, node: NodeIndex) -> &mut Node {
        &mut self.nodes[usize::from(node)]
    }

    fn wanted_member(&mut self, node: NodeIndex, key: &str) -> usize {
        self.find(node, key).unwrap_or_else(|| self.node_mut(node).add(key))
    }

    fn add_node(&mut self, node: NodeIndex, member: usize) -> NodeIndex {
        let below = self.nodes.len() as NodeIndex;
        self.nodes.push(Node::default());
        self.node_mut(node).members[member].slot.below = Below::Node(below);
        below
    }
}

impl Node {
    fn add(&mut self, key: &str) -> usize {
        let written = Written::new(serde_json::Value::from(key).to_string() + ":");
        let member = Member { written, key: key.into(), slot: Slot::MEMBER, next: 0, seen: 0 };
        self.members.push(member);
        self.members.len() - 1
    }
}

/// Bytes that are compared with the front of others, up to 16 of them without a call.
#[derive(Debug)]
pub(super) struct Written {
    bytes: Box<[u8]>,
    /// The first eight and the last eight bytes, where there are 8 to 16.
    ends: Option<(u64, u64)>,
}

impl Written {
    fn new(text: String) -> Self {
        let bytes = text.into_bytes().into_boxed_slice();
        let ends = match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(first), Some(last)) if bytes.len() <= 16 => {
                Some((u64::from_le_bytes(*first), u64::from_le_bytes(*last)))
            }
            _ => None,
        };
        Written { bytes, ends }
    }

    /// Where these bytes end, if they stand in `text` at `at`.
    #[inline(always)]
    pub(super) fn end(&self, text: &[u8], at: usize) -> Option<usize> {
        let end = at + self.bytes.len();
        let text = text.get(at..end)?;
        let same = match (self.ends, text.first_chunk(), text.last_chunk()) {
            (Some(ends), Some(first), Some(last)) => {
                ends == (u64::from_le_bytes(*first), u64::from_le_bytes(*last))
            }
            _ => *text == *self.bytes,
        };
        same.then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_share_their_prefix_and_equal_pointers_a_cell() {
        let pointer =
            |tokens: &[&str]| Pointer(tokens.iter().map(|token| token.to_string()).collect());
        let mut members = Members::new();
        assert_eq!(members.want(&pointer(&["a", "b"]), 1), 1);
        assert_eq!(members.want(&pointer(&["a", "c"]), 2), 2);
        assert_eq!(members.want(&pointer(&["a", "b"]), 3), 1);
        assert_eq!(members.want(&pointer(&["a"]), 3), 3);
        assert_eq!(members.nodes.len(), 2);
        assert_eq!(members.node(1).members.len(), 2);
    }

    #[test]
    fn written_keys_are_compared_whole() {
        for length in 0..40 {
            let text: String = ('a'..='z').cycle().take(length).collect();
            let written = Written::new(text.clone());
            assert_eq!(written.end(format!("--{text}--").as_bytes(), 2), Some(length + 2));
            for place in 0..length {
                let mut other = text.clone().into_bytes();
                other[place] = b'-';
                assert_eq!(written.end(&other, 0), None, "byte {place} of {length}");
            }
        }
    }

    #[test]
    fn a_key_of_64_bytes_is_learnt_and_a_longer_one_is_not() {
        let mut members = Members::new();
        let learnt = members.learn(Members::ROOT, &"k".repeat(LEARNT_BYTES_MAX));
        assert_eq!(learnt, Some(0));
        assert_eq!(members.learn(Members::ROOT, &"k".repeat(LEARNT_BYTES_MAX + 1)), None);
    }

    #[test]
    fn learning_is_bounded() {
        let mut members = Members::new();
        let learnt =
            (0..1000).filter_map(|i| members.learn(Members::ROOT, &format!("key{i}"))).count();
        assert_eq!(learnt, usize::from(LEARNT_MAX));
        let nodes = (0..1000).map(|_| members.learn_node(Members::ROOT, 0));
        assert_eq!(nodes.filter(|below| *below != Below::Nobody).count(), NODES_MAX - 1);
    }
}
