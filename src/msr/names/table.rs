//! All families in one sorted table, put together and checked by the compiler.

#![expect(
    clippy::indexing_slicing,
    reason = "only const evaluation indexes here: out of bounds is a compile error"
)]

use super::Row;
use super::banks::{STRIDES, Stride};
use super::{
    amd, amd_pmu, arch, debug, hyperv, kvm, mce, mtrr, platform, pmu, power, svm, vmx, x2apic,
};

const FAMILIES: &[&[Row]] = &[
    arch::ROWS,
    platform::ROWS,
    mtrr::ROWS,
    mce::ROWS,
    power::ROWS,
    pmu::ROWS,
    debug::ROWS,
    vmx::ROWS,
    x2apic::ROWS,
    kvm::ROWS,
    hyperv::ROWS,
    amd::ROWS,
    amd_pmu::ROWS,
    svm::ROWS,
];

const fn count() -> usize {
    let (mut family, mut sum) = (0, 0);
    while family < FAMILIES.len() {
        sum += FAMILIES[family].len();
        family += 1;
    }
    sum
}

/// Sorts by insertion; two rows of one index are a compile error.
const fn sorted() -> [Row; count()] {
    let mut rows = [FAMILIES[0][0]; count()];
    let (mut family, mut filled) = (0, 0);
    while family < FAMILIES.len() {
        let mut next = 0;
        while next < FAMILIES[family].len() {
            let row = FAMILIES[family][next];
            let mut at = filled;
            while at > 0 && rows[at - 1].index > row.index {
                rows[at] = rows[at - 1];
                at -= 1;
            }
            assert!(
                at == 0 || rows[at - 1].index < row.index,
                "two rows of one index"
            );
            rows[at] = row;
            filled += 1;
            next += 1;
        }
        family += 1;
    }
    rows
}

/// Every MSR that has a row of its own, lowest index first.
pub(super) static TABLE: [Row; count()] = sorted();

/// Whether one of a stride's registers has `index`, and which.
pub(super) const fn number_in(stride: &Stride, index: u32) -> Option<u32> {
    if index < stride.row.index {
        return None;
    }
    let off = index - stride.row.index;
    if off.is_multiple_of(stride.step) && off / stride.step < stride.count {
        Some(off / stride.step)
    } else {
        None
    }
}

const fn nothing_is_named_twice() {
    let mut stride = 0;
    while stride < STRIDES.len() {
        let one = &STRIDES[stride];
        let mut number = 0;
        while number < one.count {
            let index = one.row.index + number * one.step;
            let mut other = 0;
            while other < stride {
                assert!(
                    number_in(&STRIDES[other], index).is_none(),
                    "strides overlap"
                );
                other += 1;
            }
            number += 1;
        }
        let mut row = 0;
        while row < TABLE.len() {
            assert!(
                number_in(one, TABLE[row].index).is_none(),
                "a row lies in a stride"
            );
            row += 1;
        }
        stride += 1;
    }
}
const _: () = nothing_is_named_twice();
