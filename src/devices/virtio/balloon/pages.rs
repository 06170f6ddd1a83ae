//! Runs of pages out of frame numbers in any order.

/// Frame numbers of a buffer (VIRTIO 1.2, 5.5.6): 32 bits each; a rest is passed over.
pub(super) fn frames(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let (frames, _) = bytes.as_chunks::<4>();
    frames.iter().map(|frame| u32::from_le_bytes(*frame).into())
}

/// The same frames as runs, (first, count), lowest first; a frame named twice counts once. A hole is
/// punched for each run: Linux hands pages out in order more often than not.
pub(super) fn runs(mut frames: Vec<u64>) -> Vec<(u64, u64)> {
    frames.sort_unstable();
    frames.dedup();
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for frame in frames {
        match runs.last_mut() {
            Some((first, count)) if first.saturating_add(*count) == frame => {
                *count = count.saturating_add(1);
            }
            _ => runs.push((frame, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_in_any_order_are_one_run() {
        assert_eq!(runs(vec![7, 3, 2, 4, 9, 3]), [(2, 3), (7, 1), (9, 1)]);
        assert_eq!(runs(Vec::new()), []);
        let bytes = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 9];
        assert_eq!(frames(&bytes).collect::<Vec<_>>(), [1, 0xffff_ffff]);
    }

    proptest! {
        #[test]
        fn runs_hold_the_frames_and_no_others(frames in prop::collection::vec(0_u64..64, 0..80)) {
            let all = runs(frames.clone());
            let back: Vec<u64> = all.iter().flat_map(|(at, count)| *at..*at + *count).collect();
            let mut expected = frames;
            expected.sort_unstable();
            expected.dedup();
            prop_assert_eq!(back, expected);
            prop_assert!(all.windows(2).all(|pair| pair[0].0 + pair[0].1 < pair[1].0));
        }
    }
}
