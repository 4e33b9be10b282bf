//! The daemon's own `memcpy` and its kin, against the standard library: all small lengths, alignments and overlaps.

#[path = "../src/entry/mem.rs"]
mod ours;

const ROOM: usize = 400;

fn pattern() -> [u8; ROOM] {
    core::array::from_fn(|index| (index * 7 + index / 256) as u8)
}

/// Around every length where a function changes its method.
fn lengths() -> impl Iterator<Item = usize> {
    (0..150).chain([191, 192, 193, 255, 256, 257])
}

#[test]
fn copies() {
    let source = pattern();
    for len in lengths() {
        for (from, to) in (0..9).flat_map(|from| (0..9).map(move |to| (from, to))) {
            let mut found = [0; ROOM];
            let mut expected = [0; ROOM];
            expected[to..to + len].copy_from_slice(&source[from..from + len]);
            // SAFETY: `from + len` and `to + len` are less than ROOM.
            unsafe { ours::copy(found.as_mut_ptr().add(to), source.as_ptr().add(from), len) };
            assert_eq!(found, expected, "{len} bytes from {from} to {to}");
        }
    }
}

#[test]
fn moves_in_both_directions() {
    for len in lengths() {
        for (from, to) in (0..18).flat_map(|from| [0, 1, 3, 8, 9, 17, 64, 100].map(|to| (from, to))) {
            let mut found = pattern();
            let mut expected = pattern();
            expected.copy_within(from..from + len, to);
            let start = found.as_mut_ptr();
            // SAFETY: as above.
            unsafe { ours::copy_overlapping(start.add(to), start.add(from), len) };
            assert_eq!(found, expected, "{len} bytes from {from} to {to}");
        }
    }
}

#[test]
fn fills() {
    for (len, to) in lengths().flat_map(|len| (0..9).map(move |to| (len, to))) {
        let mut found = pattern();
        let mut expected = pattern();
        expected[to..to + len].fill(0xa5);
        // SAFETY: as above.
        unsafe { ours::fill(found.as_mut_ptr().add(to), 0xa5, len) };
        assert_eq!(found, expected, "{len} bytes at {to}");
    }
}

#[test]
fn compares_by_the_first_difference() {
    let left = pattern();
    for (len, start) in lengths().flat_map(|len| (0..3).map(move |start| (len, start))) {
        // SAFETY: here and below, `start + len` is less than ROOM.
        assert_eq!(unsafe { ours::compare(left.as_ptr().add(start), left.as_ptr().add(start), len) }, 0);
        for at in 0..len {
            let mut right = left;
            right[start + at] ^= 0x80;
            right[start + len - 1] = right[start + len - 1].wrapping_add(1);
            let found = unsafe { ours::compare(left.as_ptr().add(start), right.as_ptr().add(start), len) };
            assert_eq!(
                found.cmp(&0),
                left[start..start + len].cmp(&right[start..start + len]),
                "{len} bytes, at {at}"
            );
        }
    }
}

#[test]
fn measures() {
    for len in lengths() {
        let mut string = [b'x'; ROOM];
        string[len] = 0;
        // SAFETY: there is a zero within the array.
        assert_eq!(unsafe { ours::length(string.as_ptr()) }, len);
    }
}
