//! Measures the quality and the cost of the tool search on labelled requests. Run by `cargo xtask bench
//! retrieval` and `cargo xtask bench search`, which also fetch the data; never part of the product.

mod data;
mod floor;
mod fts5;
mod models;
mod retrieval;
mod speed;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Parser, Subcommand};

/// Measures the tool search.
#[derive(Parser)]
#[command(name = "vmcp-search-bench")]
struct Cli {
    /// The folder with `livemcpbench` and `catalogues`.
    #[arg(long)]
    data: PathBuf,
    /// A page; the table between the command's markers in it is replaced.
    #[arg(long)]
    page: Option<PathBuf>,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Measures how many of the wanted tools are found.
    Retrieval {
        /// The folder `bfcl_eval/data` of the Python package bfcl-eval.
        #[arg(long)]
        bfcl: PathBuf,
        /// A custom labelled set: `{"tools": [definitions], "requests": [{"text": …, "tools": [names]}]}`.
        #[arg(long)]
        own: Vec<PathBuf>,
    },
    /// Measures the cost of a search among ten thousand tools.
    Search,
}

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let tables = match &cli.bench {
        Bench::Retrieval { bfcl, own } => {
            let mut sets = vec![
                data::bfcl(bfcl)?,
                data::live_mcp_bench(&cli.data.join("livemcpbench"))?,
                data::catalogues(&cli.data.join("catalogues"))?,
            ];
            for file in own {
                sets.push(data::custom_set(file)?);
            }
            vec![("retrieval", retrieval::table(&sets)?), ("floor", floor::table(&sets))]
        }
        Bench::Search => vec![("search", speed::speed_table(&cli.data)?)],
    };
    for (name, table) in tables {
        println!("{table}");
        if let Some(page) = &cli.page {
            write(page, name, &table)?;
        }
    }
    Ok(())
}

/// Writes `table` between the markers of `name` in the page.
fn write(page: &Path, name: &str, table: &str) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| page.display().to_string())?;
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let (before, rest) = text.split_once(&begin).with_context(|| format!("no `{}`", begin.trim()))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("no `{end}`"))?;
    std::fs::write(page, format!("{before}{begin}\n{table}\n{end}{after}"))?;
    println!("{} is written", page.display());
    Ok(())
}
