//! Slots: which one a key has, and which node has it.

use std::ops::RangeInclusive;

use redis::Value;

use super::Node;

/// Some slots and the node that has them.
pub(super) struct Range {
    pub(super) slots: RangeInclusive<u16>,
    pub(super) node: Node,
}

/// The slot of a key: a checksum of what stands in its first braces, or of all of it.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    let position = |bytes: &[u8], wanted| bytes.iter().position(|byte| *byte == wanted);
    let inside = position(key, b'{').and_then(|open| {
        let rest = &key[open + 1..];
        position(rest, b'}').map(|close| &rest[..close])
    });
    let hashed = inside.filter(|inside| !inside.is_empty()).unwrap_or(key);
    crc16(hashed) % SLOTS
}

/// CRC-16/XMODEM, as the specification of Redis Cluster asks for.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(
            crc ^ (u16::from(*byte) << 8),
            |crc, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 },
        )
    })
}

/// Reads the response to `CLUSTER SLOTS` of this host. `None` if it is none.
pub(super) fn ranges(answer: Value, asked: &str) -> Option<Vec<Range>> {
    let Value::Array(answer) = answer else { return None };
    let ranges: Vec<_> = answer.into_iter().filter_map(|range| self::range(range, asked)).collect();
    // A node that has just begun knows of none.
    Some(ranges).filter(|ranges| !ranges.is_empty())
}

/// First slot, last slot, primary, replicas.
fn range(answer: Value, asked: &str) -> Option<Range> {
    let Value::Array(parts) = answer else { return None };
    let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &parts[..] else { return None };
    let [host, Value::Int(port), ..] = &primary[..] else { return None };
    let host = match host {
        Value::BulkString(host) => std::str::from_utf8(host).ok()?,
        Value::SimpleString(host) => host,
        _ => "",
    };
    // The node doesn't know its own name.
    let host = if matches!(host, "" | "?") { asked } else { host };
    let slots = u16::try_from(*first).ok()?..=u16::try_from(*last).ok()?;
    Some(Range { slots, node: (host.to_owned(), u16::try_from(*port).ok()?) })
}

const SLOTS: u16 = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_specification() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
        assert_eq!((slot_of(b"foo"), slot_of(b"bar")), (12_182, 5_061));
        for (key, same) in [
            ("{user1000}.following", "user1000"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("foo{bar", "foo{bar"),
        ] {
            let hashed = crc16(same.as_bytes()) % SLOTS;
            assert_eq!(slot_of(key.as_bytes()), hashed, "{key}");
        }
    }

    #[test]
    fn the_map_names_the_primary_of_each_range() {
        let answer = b"*3\r\n\
            *4\r\n:0\r\n:5460\r\n*3\r\n$9\r\n127.0.0.1\r\n:7000\r\n$1\r\na\r\n*3\r\n$9\r\n127.0.0.1\r\n:7003\r\n$1\r\nb\r\n\
            *3\r\n:5461\r\n:5461\r\n*3\r\n$0\r\n\r\n:7001\r\n$1\r\nc\r\n\
            *3\r\n:5462\r\n:16383\r\n*3\r\n$-1\r\n:7002\r\n$1\r\nd\r\n";
        let ranges = ranges(redis::parse_redis_value(answer).unwrap(), "asked").unwrap();
        let read: Vec<_> = ranges.into_iter().map(|range| (range.slots, range.node)).collect();
        let expected = [
            (0..=5_460, ("127.0.0.1".to_owned(), 7_000)),
            (5_461..=5_461, ("asked".to_owned(), 7_001)),
            (5_462..=16_383, ("asked".to_owned(), 7_002)),
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_no_map_is_none() {
        for answer in [
            &b"*0\r\n"[..],
            b"+OK\r\n",
            b"*1\r\n:1\r\n",
            b"*1\r\n*1\r\n:1\r\n",
            b"*1\r\n*3\r\n:-1\r\n:5\r\n*2\r\n$1\r\na\r\n:1\r\n",
        ] {
            assert!(ranges(redis::parse_redis_value(answer).unwrap(), "asked").is_none());
        }
    }
}
