use proptest::prelude::*;

use super::*;

/// KVM's own rule (`kvm_msr_allowed`), 32-bit sum included.
fn kvm_allows(filter: &Filter, index: u32, direction: Direction) -> bool {
    if (0x800..=0x8ff).contains(&index) {
        return true;
    }
    for range in &filter.ranges {
        let end = range.base.wrapping_add(range.count);
        let covers = match direction {
            Direction::Read => range.read,
            Direction::Write => range.write,
        };
        if index >= range.base && index < end && covers {
            let bit = index - range.base;
            return range.bitmap[usize::try_from(bit / 8).unwrap()] >> (bit % 8) & 1 == 1;
        }
    }
    filter.default_allow
}

/// What the ioctl refuses.
fn kvm_takes(filter: &Filter) {
    assert!(filter.ranges.len() <= MAX_RANGES);
    for range in &filter.ranges {
        let bytes = range.count.next_multiple_of(64) / 8;
        assert!(bytes > 0 && bytes <= 0x600, "{} MSRs", range.count);
        assert_eq!(range.bitmap.len(), usize::try_from(bytes).unwrap());
        assert!(range.base.checked_add(range.count).is_some(), "wraps");
        assert!(range.read || range.write);
    }
    assert!(filter.default_allow || !filter.ranges.is_empty());
}

fn traps(read: &[(u32, u32)], write: &[(u32, u32)]) -> Traps {
    let mut traps = Traps::default();
    for (direction, set) in [(Direction::Read, read), (Direction::Write, write)] {
        let mut set = set.to_vec();
        set.sort_unstable();
        for (first, last) in set {
            traps.add(direction, first, last);
        }
    }
    traps
}

fn check(traps: &Traps, index: u32) {
    let Ok(filter) = compile(traps) else { return };
    for direction in [Direction::Read, Direction::Write] {
        let reachable = !X2APIC.contains(&index) && index != u32::MAX;
        if reachable {
            assert_eq!(
                kvm_allows(&filter, index, direction),
                !traps.has(direction, index),
                "{index:#x} {direction:?}"
            );
        }
    }
}

#[test]
fn nothing_to_trap_is_no_filter() {
    assert_eq!(compile(&Traps::default()).unwrap(), Filter::none());
}

#[test]
fn a_range_holds_12288_msrs_and_no_more() {
    let filter = compile(&traps(&[(0, 12287)], &[(0, 12287)])).unwrap();
    assert_eq!(filter.ranges.len(), 1);
    let filter = compile(&traps(&[(0, 12288)], &[(0, 12288)])).unwrap();
    assert_eq!(filter.ranges.len(), 2);
    kvm_takes(&filter);
}

#[test]
fn everything_trapped_is_a_filter_that_denies_by_default() {
    let all = [(0, u32::MAX)];
    let filter = compile(&traps(&all, &all)).unwrap();
    assert!(!filter.default_allow);
    kvm_takes(&filter);
    for index in [0, 0x10, 0xc000_0080, LAST_FILTERABLE] {
        check(&traps(&all, &all), index);
    }
    // All but a few: the few are what the ranges name.
    let but = [(0, 0xf), (0x11, 0xc000_0101), (0xc000_0103, u32::MAX)];
    let filter = compile(&traps(&but, &but)).unwrap();
    assert_eq!((filter.default_allow, filter.ranges.len()), (false, 2));
    check(&traps(&but, &but), 0x10);
}

#[test]
fn no_range_reaches_the_end_of_the_index_space() {
    let last = [(u32::MAX - 5, u32::MAX)];
    let filter = compile(&traps(&last, &last)).unwrap();
    kvm_takes(&filter);
    check(&traps(&last, &last), LAST_FILTERABLE);
}

#[test]
fn the_x2apic_costs_no_range() {
    let filter = compile(&traps(&[(0x800, 0x8ff)], &[(0x802, 0x802)])).unwrap();
    assert_eq!(filter, Filter::none());
}

#[test]
fn what_does_not_fit_is_refused_with_the_plan() {
    let far: Vec<_> = (0..17).map(|n| (n * 0x10_0000, n * 0x10_0000)).collect();
    let error = compile(&traps(&far, &far)).unwrap_err();
    assert_eq!((error.plan.len(), error.more), (17, false));
    let text = error.to_string();
    assert!(
        text.contains("needs 17 ranges") && text.contains("0x100000-0x100000 rw"),
        "{text}"
    );
    let many: Vec<_> = (0..1000).map(|n| (n * 0x10_0000, n * 0x10_0000)).collect();
    let error = compile(&traps(&many, &many)).unwrap_err();
    assert!(error.more && error.plan.len() == PLANNED);
}

#[test]
fn reads_and_writes_share_a_range_where_they_are_alike() {
    let filter = compile(&traps(&[(0, 9), (0x10_0000, 0x10_0001)], &[(0, 9)])).unwrap();
    let access: Vec<_> = filter.ranges.iter().map(|r| (r.read, r.write)).collect();
    assert_eq!(access, [(true, true), (true, false)]);
}

prop_compose! {
    fn spot()(
        base in prop::sample::select(vec![
            0u32, 0x1f00, 0x7f0, 0x8f0, 0x2fff, 0x4000_0000, 0x4b56_4d00, 0xc000_0000, 0xc001_0000,
            0xffff_cff0, 0xffff_fff0,
        ]),
        off in 0u32..0x40,
        len in prop_oneof![0u32..3, 0u32..20000, Just(u32::MAX)],
    ) -> (u32, u32) {
        let first = base.saturating_add(off);
        (first, first.saturating_add(len))
    }
}

proptest! {
    #[test]
    fn the_filter_traps_what_the_policy_wants_and_nothing_else(
        read in prop::collection::vec(spot(), 0..7),
        write in prop::collection::vec(spot(), 0..7),
        far: u32,
        near in prop::collection::vec((0usize..14, 0u32..40, any::<bool>()), 0..40),
    ) {
        let traps = traps(&read, &write);
        if let Ok(filter) = compile(&traps) {
            kvm_takes(&filter);
        }
        check(&traps, far);
        let edges: Vec<u32> = read.iter().chain(&write).flat_map(|r| [r.0, r.1]).collect();
        for edge in &edges {
            for index in [edge.wrapping_sub(1), *edge, edge.wrapping_add(1)] {
                check(&traps, index);
            }
        }
        for (at, off, up) in near {
            if let Some(edge) = edges.get(at) {
                check(&traps, if up { edge.wrapping_add(off) } else { edge.wrapping_sub(off) });
            }
        }
    }
}
