//! The bytes in a file: a first line, by which a complete file of this crate is recognized, and the data.

use sha2::{Digest, Sha256};

use crate::store::{Entry, account::hex};

/// The first line: a magic word, the format, the version, and a checksum of the data.
pub(super) fn head(version: u64, data: &[u8]) -> String {
    format!("{MAGIC} {FORMAT} {version} {}\n", hex(Sha256::digest(data)))
}

pub(super) fn parse(content: &[u8]) -> Result<Entry, &'static str> {
    const FOREIGN: &str = "is another program's: choose another path, or move it away";
    const DAMAGED: &str = "is damaged: restore it, or move it away and authorize again";
    let end = content.iter().position(|byte| *byte == b'\n').ok_or(FOREIGN)?;
    let (line, data) = (&content[..end], &content[end + 1..]);
    let mut words = std::str::from_utf8(line).map_err(|_| FOREIGN)?.split(' ');
    if words.next() != Some(MAGIC) {
        return Err(FOREIGN);
    }
    match words.next().and_then(|format| format.parse::<u32>().ok()) {
        Some(FORMAT) => {}
        Some(_) => return Err("was written by a newer version of this crate: update"),
        None => return Err(DAMAGED),
    }
    let version = words.next().and_then(|version| version.parse().ok()).ok_or(DAMAGED)?;
    match words.next() {
        Some(sum) if sum == hex(Sha256::digest(data)) => Ok(Entry::new(version, data.to_vec())),
        _ => Err(DAMAGED),
    }
}

const MAGIC: &str = "tower-bearer-store";
const FORMAT: u32 = 1;
