//! Writes the seeds and the tokens of every target in the forms that libFuzzer reads: the folder `NAME` with
//! one file for each seed, and the dictionary `NAME.dict`. `cargo xtask fuzz` runs this.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::Context as _;
use vmcp_fuzz::{TARGETS, Target, seeds};

fn main() -> anyhow::Result<()> {
    let folder =
        env::args_os().nth(1).map(PathBuf::from).context("the argument is the folder to write to")?;
    TARGETS.iter().try_for_each(|target| write(target, &folder))
}

fn write(target: &Target, folder: &Path) -> anyhow::Result<()> {
    let seed_folder = folder.join(target.name);
    fs::create_dir_all(&seed_folder)?;
    for (number, seed) in seeds(target)?.iter().enumerate() {
        fs::write(seed_folder.join(number.to_string()), seed)?;
    }
    let escape = |byte: u8| format!("\\x{byte:02X}");
    let line = |token: &&str| format!("\"{}\"\n", token.bytes().map(escape).collect::<String>());
    let dictionary: String = target.tokens.iter().map(line).collect();
    fs::write(folder.join(format!("{}.dict", target.name)), dictionary)?;
    Ok(())
}
