//! Which experiments are made on which kernels.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::check::{Case, Experiment, SOURCES};
use crate::cli::progress::Bar;
use crate::cli::{Failure, chain};
use crate::kernels::{self, Cache, Kernel, Options, Progress, compare_releases, external, locate};

use super::list::on;

/// Kernels in the order they are preferred: the more people run it, the more its outcome says.
const FLAVOURS: [&str; 7] = [
    "debian",
    "generic",
    "debian-cloud",
    "cloud",
    "tiny",
    "debug",
    "novmap",
];

/// One experiment on one kernel.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) experiment: &'static Experiment,
    pub(super) kernel: Option<Kernel>,
    pub(super) case: Option<&'static Case>,
    /// Where its modules are, when it needs any; or why it cannot be made.
    pub(super) modules: Result<Option<PathBuf>, String>,
}

impl Job {
    /// Whether there is something to boot.
    pub(super) fn is_boot(&self) -> bool {
        self.modules.is_ok()
    }
}

pub(super) struct Planner<'c> {
    cache: &'c Cache,
    /// Whether modules that did not build are tried again.
    again: bool,
    quiet: bool,
    built: RefCell<BTreeMap<String, Result<PathBuf, String>>>,
}

impl<'c> Planner<'c> {
    pub(super) fn new(cache: &'c Cache, again: bool, quiet: bool) -> Self {
        Self {
            cache,
            again,
            quiet,
            built: RefCell::default(),
        }
    }

    /// On the named kernels all that is asked for; without any, every case on the kernel of the cache that
    /// is preferred for it.
    pub(super) fn plan(
        &self,
        experiments: &[&'static Experiment],
        named: &[String],
    ) -> Result<Vec<Job>, Failure> {
        let mut jobs = Vec::new();
        if named.is_empty() {
            let kernels = preferred(self.cache.list().map_err(of_kernels)?);
            for experiment in experiments {
                for case in experiment.cases {
                    let fits = |(_, options): &&(Kernel, Options)| {
                        experiment
                            .case(|option| options.is_on(option))
                            .is_some_and(|own| std::ptr::eq(own, case))
                    };
                    let kernel = kernels.iter().find(fits).map(|(kernel, _)| kernel.clone());
                    jobs.push(self.job(experiment, kernel, Ok(case)));
                }
            }
            return Ok(jobs);
        }
        for name in named {
            let kernel = locate(self.cache, name).map_err(of_kernels)?;
            let options = options(&kernel);
            for experiment in experiments {
                let case = match &options {
                    None => Err("the kernel's configuration is not there to see".to_owned()),
                    Some(options) => experiment
                        .case(|option| options.is_on(option))
                        .ok_or_else(|| unfit(experiment)),
                };
                jobs.push(self.job(experiment, Some(kernel.clone()), case));
            }
        }
        Ok(jobs)
    }

    fn job(
        &self,
        experiment: &'static Experiment,
        kernel: Option<Kernel>,
        case: Result<&'static Case, String>,
    ) -> Job {
        let modules = match (&kernel, &case) {
            (_, Err(why)) => Err(why.clone()),
            (None, Ok(case)) => Err(format!(
                "no kernel in the cache is for this ({}); get one: {}",
                on(case),
                case.from
            )),
            (Some(kernel), Ok(case)) if case.setup.module.is_some() => {
                self.modules(kernel).map(Some)
            }
            _ => Ok(None),
        };
        Job {
            experiment,
            kernel,
            case: case.ok(),
            modules,
        }
    }

    /// Builds a kernel's modules, once.
    fn modules(&self, kernel: &Kernel) -> Result<PathBuf, String> {
        if let Some(known) = self.built.borrow().get(&kernel.name) {
            return known.clone();
        }
        let bar = Bar::new(self.quiet);
        bar.step(&format!("building modules for {}", kernel.name));
        let built = external(self.cache, kernel, &SOURCES, self.again);
        let built = built.map_err(|error| chain(&error));
        let mut known = self.built.borrow_mut();
        known.insert(kernel.name.clone(), built.clone());
        built
    }
}

/// Kernels to choose from, the preferred first; those without headers last, for they need a command more.
fn preferred(kernels: Vec<Kernel>) -> Vec<(Kernel, Options)> {
    let rank = |kernel: &Kernel| {
        let flavour = kernel.flavour.as_deref()?;
        FLAVOURS.iter().position(|known| *known == flavour)
    };
    let mut ranked: Vec<_> = kernels
        .into_iter()
        .filter_map(|kernel| Some((rank(&kernel)?, options(&kernel)?, kernel)))
        .collect();
    ranked.sort_by(|(rank_a, _, a), (rank_b, _, b)| {
        let version = |kernel: &Kernel| kernel.version.clone().unwrap_or_default();
        (a.headers.is_none(), rank_a)
            .cmp(&(b.headers.is_none(), rank_b))
            .then_with(|| compare_releases(&version(b), &version(a)))
            .then_with(|| Reverse(&a.name).cmp(&Reverse(&b.name)))
    });
    ranked
        .into_iter()
        .map(|(_, options, kernel)| (kernel, options))
        .collect()
}

fn options(kernel: &Kernel) -> Option<Options> {
    Options::read(kernel.config.as_deref()?).ok()
}

fn unfit(experiment: &Experiment) -> String {
    let kinds: Vec<_> = experiment.cases.iter().map(on).collect();
    format!("it is for kernels with {}", kinds.join("; or with "))
}

/// A kernel that is not there is the host's lack; one that is no kernel is the user's mistake.
pub(super) fn of_kernels(error: kernels::KernelError) -> Failure {
    if error.is_hosts_fault() {
        Failure::host(error)
    } else {
        Failure::usage(error)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::check::find;

    fn put(cache: &Cache, name: &str, flavour: &str, config: &str, headers: bool) {
        let dir = cache.kernels().join(name);
        fs::create_dir_all(&dir).unwrap();
        let (_, version) = name.rsplit_once('-').unwrap();
        let manifest = format!(
            r#"{{"name":"{name}","version":"{version}","flavour":"{flavour}","suite":null,"package":"p","made_at":1}}"#
        );
        fs::write(dir.join("kernel.json"), manifest).unwrap();
        fs::write(dir.join("vmlinuz"), "").unwrap();
        fs::write(dir.join("config"), config).unwrap();
        if headers {
            fs::create_dir_all(dir.join("headers")).unwrap();
        }
    }

    #[test]
    fn each_case_goes_to_the_kernel_preferred_for_it_and_the_lab_s_own_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let vmap = "CONFIG_VMAP_STACK=y\n";
        put(&cache, "lab-6.12", "lab", vmap, true);
        put(&cache, "tiny-6.12", "tiny", vmap, true);
        put(&cache, "debian-6.1", "debian", vmap, true);
        put(&cache, "debian-6.12", "debian", vmap, true);
        put(&cache, "debian-6.18", "debian", vmap, false);
        let planner = Planner::new(&cache, true, true);
        let jobs = planner
            .plan(&[find("stack-overflow").unwrap()], &[])
            .unwrap();
        let kernels: Vec<_> = jobs
            .iter()
            .map(|job| job.kernel.as_ref().map(|kernel| kernel.name.as_str()))
            .collect();
        assert_eq!(kernels, [Some("debian-6.12"), None]);
        let why = jobs[1].modules.clone().unwrap_err();
        assert!(
            why.contains("no VMAP_STACK") && why.contains("trapline kernel build novmap"),
            "{why}"
        );
    }

    #[test]
    fn a_named_kernel_that_an_experiment_is_not_for_is_a_skip_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        put(&cache, "tiny-6.12", "tiny", "", true);
        let planner = Planner::new(&cache, true, true);
        let tests = [find("hard-lockup").unwrap(), find("smap").unwrap()];
        let jobs = planner.plan(&tests, &["tiny".into()]).unwrap();
        let why = jobs[0].modules.clone().unwrap_err();
        assert_eq!(why, "it is for kernels with HARDLOCKUP_DETECTOR_BUDDY");
        // The headers are empty: make fails, and says so.
        assert!(jobs[1].modules.clone().unwrap_err().contains("make said"));
        assert!(planner.plan(&tests, &["tinny".into()]).is_err());
    }

    #[test]
    fn an_experiment_without_a_module_needs_no_headers() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let config = "CONFIG_KVM_GUEST=y\nCONFIG_X86_PM_TIMER=y\n";
        put(&cache, "tiny-6.12", "tiny", config, false);
        let planner = Planner::new(&cache, true, true);
        let jobs = planner
            .plan(&[find("clocksource-choice").unwrap()], &[])
            .unwrap();
        assert!(jobs.iter().all(Job::is_boot) && jobs.len() == 1);
    }
}
