//! What is wrong with a policy, and where.

use std::io;

use super::super::names::{UnknownBank, UnknownMsr};

/// A policy that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read.
    #[error("cannot read the MSR policy {path}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// No policy of that name is built in.
    #[error("no MSR policy :{name} is built in; there are {}", known.join(", "))]
    NoSuch {
        /// What was asked for, without the colon.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// More files than can be told apart.
    #[error("{0} MSR policies are more than 65535")]
    Many(usize),
    /// Something is wrong in it.
    #[error("{file}:{line}:{column}: {problem}")]
    At {
        /// The file.
        file: String,
        /// Line, from 1.
        line: u32,
        /// Column, from 1.
        column: u32,
        /// What.
        problem: Problem,
    },
}

/// What is wrong at one place of a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not TOML, or not of the policy's form.
    #[error("{0}")]
    Syntax(String),
    /// A key that nobody reads.
    #[error(
        "there is no key {key:?} here; {}",
        if key == nearest { "it belongs in another table: [[rule]], [default] or [ask]".into() }
        else { format!("did you mean {nearest:?}?") }
    )]
    Key {
        /// It.
        key: String,
        /// The nearest there is.
        nearest: String,
    },
    /// No such MSR.
    #[error(transparent)]
    Msr(#[from] UnknownMsr),
    /// No such bank.
    #[error(transparent)]
    Bank(#[from] UnknownBank),
    /// Not a number.
    #[error("{0:?} is not a number; write 16 or 0x10")]
    Number(String),
    /// An index that no MSR can have.
    #[error("{0} is past the last MSR, 0xffffffff")]
    PastEnd(String),
    /// A range that ends before it begins.
    #[error("the range {first:#x}-{last:#x} ends before it begins")]
    Backwards {
        /// Its first.
        first: u32,
        /// Its last.
        last: u32,
    },
    /// A word that is not one of those that can stand there.
    #[error("{key} = {word:?} is not known; it can be {}", known.join(", "))]
    Word {
        /// The key.
        key: &'static str,
        /// What was written.
        word: String,
        /// What can be.
        known: Vec<&'static str>,
    },
    /// A vCPU that cannot be.
    #[error("there can be no vCPU {0}: they are 0 to 254")]
    Vcpu(i64),
    /// No vCPU at all.
    #[error("vcpu = [] is for no vCPU; leave the key out for all")]
    NoVcpu,
    /// `nth` counts from one.
    #[error("nth counts accesses from 1")]
    NthZero,
    /// A key that means nothing for what the rule does.
    #[error("{key} means nothing with do = {action:?}: {why}")]
    Idle {
        /// The key.
        key: &'static str,
        /// What the rule does.
        action: &'static str,
        /// What to do about it.
        why: &'static str,
    },
    /// A value that the register cannot hold.
    #[error("{key} = {value:#x} is wider than {name}, which has {width} bits")]
    Wide {
        /// The key.
        key: &'static str,
        /// Its value.
        value: u64,
        /// The MSR.
        name: String,
        /// Its bits.
        width: u8,
    },
    /// A rule that would keep too many values.
    #[error(
        "this rule would keep the values of {count} MSRs, of at most {limit}: add read-only = true or \
         mask = 0, or name fewer"
    )]
    Many {
        /// How many it names.
        count: u64,
        /// How many it may.
        limit: u64,
    },
    /// Two rules of one rank.
    #[error(
        "{msr} has this rule and the one at line {other}, and neither outranks the other; make one \
         narrower (single, then range, then bank), or give them other vCPUs, accesses or nth"
    )]
    Clash {
        /// An MSR that has both.
        msr: String,
        /// Where the other stands.
        other: u32,
    },
    /// The rule needs KVM's handling redone, which cannot be done faithfully.
    #[error(
        "a {access} of {name} that KVM handles cannot be logged, counted or handled per vCPU: it would \
         be redone as the host's access, which KVM treats otherwise. Watch it with the host's \
         tracepoint instead: perf record -e kvm:kvm_msr (its RIP is in kvm:kvm_exit)"
    )]
    Never {
        /// Read or write.
        access: &'static str,
        /// The MSR.
        name: String,
    },
    /// `ask` without a program.
    #[error("do = \"ask\" needs a program: add [ask] with command = \"...\"")]
    NoProgram,
    /// Not a duration.
    #[error("{0:?} is not a time limit; write 1ms to 5s: \"200ms\", \"2s\"")]
    Limit(String),
}

/// Something about a policy that works otherwise than it may seem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {text}")]
pub struct Warning {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// What.
    pub text: String,
}
