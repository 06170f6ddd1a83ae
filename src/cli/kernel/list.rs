//! `trapline kernel list [--json]`

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use serde::Serialize;

use super::{Failure, Status};
use crate::cli::out;
use crate::kernels::{Cache, Kernel, Options};

/// List the kernels got and built, the newest first
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Item {
    name: String,
    version: Option<String>,
    flavour: Option<String>,
    suite: Option<String>,
    package: Option<String>,
    made_at: Option<u64>,
    image: PathBuf,
    vmlinux: Option<PathBuf>,
    modules: Option<PathBuf>,
    config: Option<PathBuf>,
    system_map: Option<PathBuf>,
    headers: Option<PathBuf>,
    options: BTreeMap<&'static str, String>,
}

impl Item {
    fn new(kernel: Kernel) -> Result<Self, Failure> {
        let options = match &kernel.config {
            Some(config) => Options::read(config).map_err(Failure::internal)?,
            None => Options::default(),
        };
        Ok(Self {
            options: options.notable(),
            name: kernel.name,
            version: kernel.version,
            flavour: kernel.flavour,
            suite: kernel.suite,
            package: kernel.package,
            made_at: kernel.made_at,
            image: kernel.image,
            vmlinux: kernel.vmlinux,
            modules: kernel.modules,
            config: kernel.config,
            system_map: kernel.system_map,
            headers: kernel.headers,
        })
    }

    /// What is on, with `=m` where it takes a module.
    fn options(&self) -> String {
        let word = |(name, value): (&&str, &String)| match value.as_str() {
            "y" => (*name).to_owned(),
            other => format!("{name}={other}"),
        };
        self.options.iter().map(word).collect::<Vec<_>>().join(" ")
    }
}

impl List {
    pub(super) fn run(&self, cache: &Cache) -> Result<Status, Failure> {
        let kernels = cache.list().map_err(Failure::internal)?;
        let items = kernels
            .into_iter()
            .map(Item::new)
            .collect::<Result<Vec<_>, _>>()?;
        if self.json {
            out::json("kernel-list", &items)?;
        } else if items.is_empty() {
            out::say(format_args!(
                "no kernel in {}; get one with\n  trapline kernel get debian-cloud",
                cache.kernels().display()
            ));
        } else {
            out::print(table(&items))?;
        }
        Ok(Status::Ok)
    }
}

fn table(items: &[Item]) -> String {
    let version = |item: &Item| item.version.clone().unwrap_or_default();
    let width = |of: &dyn Fn(&Item) -> usize| items.iter().map(of).max().unwrap_or(0);
    let name_width = width(&|item| item.name.len()).max("NAME".len());
    let version_width = width(&|item| version(item).len()).max("VERSION".len());
    let mut text = format!(
        "{:name_width$}  {:version_width$}  OPTIONS\n",
        "NAME", "VERSION"
    );
    for item in items {
        let _ = writeln!(
            text,
            "{:name_width$}  {:version_width$}  {}",
            item.name,
            version(item),
            item.options()
        );
    }
    text
}
