//! Frames: what was made durable together, with enough around it to tell a torn end from damage.
//!
//! A frame is appended only after the one before it was synced. So a bad stretch with a good frame behind it was damaged
//! after it had been durable, while a bad stretch at the end may be a write that power loss cut short. The latter leaves a
//! file that ends too early or sectors of zeros; anything else at the end counts as damage, too.

/// The first bytes of a frame.
const MARK: [u8; 4] = *b"CWF\x01";
/// Bytes before a frame's content: mark, height, length, checksum of these, checksum of the content.
const HEAD_BYTES: usize = 4 + 8 + 4 + 8 + 8;
/// Power loss takes or leaves whole sectors of a write.
const SECTOR_BYTES: usize = 512;

/// The beginning of the content's BLAKE3 hash.
fn checksum(content: &[u8]) -> [u8; 8] {
    let hash = blake3::hash(content);
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}

/// A frame as written.
pub(super) fn encode(height: u64, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("what is synced together is far below 4 GiB");
    let mut bytes = Vec::with_capacity(HEAD_BYTES + content.len());
    bytes.extend_from_slice(&MARK);
    bytes.extend_from_slice(&height.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&checksum(&bytes));
    bytes.extend_from_slice(&checksum(content));
    bytes.extend_from_slice(content);
    bytes
}

/// One frame that is as it was written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame<'a> {
    pub(super) height: u64,
    pub(super) content: &'a [u8],
    end: usize,
}

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scan<'a> {
    /// The good frames from the beginning on; all of one height.
    pub(super) frames: Vec<Frame<'a>>,
    /// How many bytes they are.
    pub(super) whole: usize,
    /// Something that was durable is not readable any more.
    pub(super) damaged: bool,
    /// The highest height of any good frame, also behind damage.
    pub(super) height: Option<u64>,
}

/// Reads a file's frames, which begin at byte `start`.
pub(super) fn scan(bytes: &[u8], start: usize) -> Scan<'_> {
    let (mut frames, mut place): (Vec<Frame<'_>>, usize) = (Vec::new(), start);
    while let Some(frame) = frame_at(bytes, place) {
        if frames.first().is_some_and(|first| first.height != frame.height) {
            break;
        }
        place = frame.end;
        frames.push(frame);
    }
    let height = frames.first().map(|first| first.height);
    // Blocks of a file that was emptied before may come back after power loss; their height tells.
    let behind = later_height(bytes, place).filter(|later| height.is_none_or(|height| *later >= height));
    let damaged = behind.is_some() || !is_torn(bytes, place);
    Scan { frames, whole: place, damaged, height: height.max(behind) }
}

fn header_is_good(bytes: &[u8], place: usize) -> bool {
    let head = bytes.get(place..place + HEAD_BYTES);
    head.is_some_and(|head| head.starts_with(&MARK) && checksum(&head[..16]) == head[16..24])
}

fn frame_at(bytes: &[u8], place: usize) -> Option<Frame<'_>> {
    if !header_is_good(bytes, place) {
        return None;
    }
    let number = |from: usize, to: usize| bytes[place + from..place + to].iter().fold(0, |n, b| n << 8 | u64::from(*b));
    let (height, length) = (number(4, 12), usize::try_from(number(12, 16)).ok()?);
    let (from, end) = (place + HEAD_BYTES, place.checked_add(HEAD_BYTES)?.checked_add(length)?);
    let content = bytes.get(from..end)?;
    (checksum(content) == bytes[place + 24..place + 32]).then_some(Frame { height, content, end })
}

/// The highest height of the good frames anywhere behind a bad stretch.
fn later_height(bytes: &[u8], place: usize) -> Option<u64> {
    let rest = bytes.get(place..)?;
    let marks = rest.windows(MARK.len()).enumerate().filter(|(_, window)| **window == MARK);
    marks.filter_map(|(offset, _)| frame_at(bytes, place + offset)).map(|frame| frame.height).max()
}

/// Whether what stands at the end is nothing, or what a write that was cut short leaves.
fn is_torn(bytes: &[u8], place: usize) -> bool {
    let end = bytes.len();
    if end - place < HEAD_BYTES {
        return true;
    }
    let promised = header_is_good(bytes, place).then(|| {
        let length: [u8; 4] = bytes[place + 12..place + 16].try_into().expect("four bytes");
        place + HEAD_BYTES + u32::from_be_bytes(length) as usize
    });
    promised.is_some_and(|promised| promised > end) || has_lost_sector(bytes, place)
}

/// Whether the part of some sector that lies behind `place` is all zero.
fn has_lost_sector(bytes: &[u8], place: usize) -> bool {
    let mut from = place;
    while from < bytes.len() {
        let to = bytes.len().min((from / SECTOR_BYTES + 1) * SECTOR_BYTES);
        if bytes[from..to].iter().all(|byte| *byte == 0) {
            return true;
        }
        from = to;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (Vec<u8>, Vec<usize>) {
        let (mut bytes, mut ends) = (b"head".to_vec(), Vec::new());
        for count in [40_u8, 200, 90] {
            bytes.extend(encode(7, &vec![count; usize::from(count)]));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn a_changed_byte_is_damage_wherever_it_is() {
        let (bytes, _) = file();
        assert!(!scan(&bytes, 4).damaged);
        for place in 4..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0x40;
            assert!(scan(&changed, 4).damaged, "byte {place}");
        }
    }

    #[test]
    fn an_end_that_is_cut_or_zeroed_is_no_damage() {
        let (bytes, ends) = file();
        for length in 4..=bytes.len() {
            let found = scan(&bytes[..length], 4);
            let whole = ends.iter().filter(|end| **end <= length).count();
            assert_eq!((found.damaged, found.frames.len()), (false, whole), "cut at {length}");
        }
        for from in ends[1]..bytes.len() - 1 {
            let mut zeroed = bytes.clone();
            zeroed[from..].fill(0);
            zeroed.resize(2 * SECTOR_BYTES, 0);
            let found = scan(&zeroed, 4);
            assert_eq!((found.damaged, found.frames.len()), (false, 2), "zeros from {from}");
        }
    }

    #[test]
    fn frames_of_an_earlier_height_that_come_back_do_not_count() {
        let mut bytes = encode(8, b"new");
        bytes.resize(SECTOR_BYTES, 0);
        bytes.extend(encode(6, b"old"));
        let found = scan(&bytes, 0);
        assert_eq!((found.damaged, found.frames.len(), found.height), (false, 1, Some(8)));
    }
}
