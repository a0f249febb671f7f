//! Bytes, pinned.

use super::*;

/// Numbers one after the other, each of so many bytes, then a name.
fn bytes(numbers: &[(u64, usize)], name: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = numbers.iter().flat_map(|(n, len)| n.to_le_bytes()[..*len].to_vec()).collect();
    out.extend_from_slice(name);
    out
}

#[test]
fn pins_the_bytes_of_a_state() {
    let mut state = State::first(&[(PartitionId(3), 0)], 2).unwrap();
    state.version = TableVersion(6);
    state.next_partition = PartitionId(5);
    let own = Placed { shard: ShardId(1), epoch: Epoch(8), start: RoutingKey(9), end: RoutingKey(9) };
    state.partitions.insert(PartitionId(4), Entry { placed: own, version: TableVersion(2) });
    state.guests.insert(b"ab", Guest { partition: PartitionId(4), version: TableVersion(5) }).unwrap();
    let (from, to, from_epoch, to_epoch) = (PartitionId(4), PartitionId(3), Epoch(7), Epoch(1));
    let open = OpenMove { entity: b"ab".as_slice().into(), from, to, from_epoch, to_epoch };
    state.moves.insert(MoveId(6), open);
    let mut found = Vec::new();
    state.encode(1 << 20, &mut found);
    let mut expected = bytes(&[(1 << 20, 8), (5, 4), (2, 4), (1, 4), (1, 4), (2, 2), (0, 6)], b"");
    expected.extend(bytes(&[(3, 4), (0, 2), (1, 1), (0, 1), (1, 8), (0, 8), (u64::MAX, 8), (1, 8)], b""));
    expected.extend(bytes(&[(4, 4), (1, 2), (1, 1), (0, 1), (8, 8), (9, 8), (9, 8), (2, 8)], b""));
    expected.extend(bytes(&[(6, 8), (4, 4), (3, 4), (7, 8), (1, 8), (2, 2)], b"ab"));
    expected.extend(bytes(&[(4, 4), (5, 8), (2, 2)], b"ab"));
    assert_eq!(found, expected);
    assert_eq!(found.len(), state.encoded_bytes());
    assert_eq!(State::decode(TableVersion(6), &found), Ok((state, 1 << 20)));
    for len in 0..found.len() {
        assert!(State::decode(TableVersion(6), &found[..len]).is_err(), "cut to {len}");
    }
    assert!(State::decode(TableVersion(5), &found).is_err(), "a move opened by a change that there was not");
}

#[test]
fn pins_the_bytes_of_changes() {
    let placed = Placed { shard: ShardId(1), epoch: Epoch(9), start: RoutingKey(5), end: RoutingKey(6) };
    let partitions = Partitions {
        seen: vec![(PartitionId(3), TableVersion(7))],
        edits: vec![(PartitionId(3), Some(placed)), (PartitionId(4), None)],
        guests: vec![(b"a".to_vec(), None), (b"b\0".to_vec(), Some(PartitionId(3)))],
        shards: Some(2),
    };
    let mut expected = bytes(&[(1, 1), (0, 1), (2, 2), (1, 4), (2, 4), (2, 4), (3, 4), (7, 8)], b"");
    expected.extend(bytes(&[(3, 4), (1, 2), (1, 1), (0, 1), (9, 8), (5, 8), (6, 8)], b""));
    expected.extend(bytes(&[(4, 4), (0, 2), (2, 1), (0, 1), (0, 8), (0, 8), (0, 8)], b""));
    expected.extend(bytes(&[(0, 4), (2, 1), (0, 1), (1, 2)], b"a"));
    expected.extend(bytes(&[(3, 4), (1, 1), (0, 1), (2, 2)], b"b\0"));
    let begin = BeginMove {
        entity: b"ab".to_vec(),
        entry: TableVersion(4),
        from: PartitionId(5),
        to: PartitionId(6),
        from_epoch: Epoch(7),
        to_epoch: Epoch(8),
    };
    for (change, expected) in [
        (partitions.into(), expected),
        (begin.into(), bytes(&[(2, 1), (0, 1), (2, 2), (5, 4), (6, 4), (4, 8), (7, 8), (8, 8)], b"ab")),
        (Change::CommitMove { id: MoveId(9) }, bytes(&[(3, 8), (9, 8)], b"")),
        (Change::AbortMove { id: MoveId(9) }, bytes(&[(4, 8), (9, 8)], b"")),
    ] {
        let mut found = Vec::new();
        change.encode(&mut found);
        assert_eq!(found, expected, "{change:?}");
        assert_eq!(Change::decode(&found), Ok(change));
        for len in 0..found.len() {
            assert!(Change::decode(&found[..len]).is_err(), "cut to {len}");
        }
        found.push(0);
        assert!(Change::decode(&found).is_err(), "a byte more");
    }
}
