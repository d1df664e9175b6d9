//! Tests of [super].
