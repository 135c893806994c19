//! Writes the inputs that fuzzing begins with into a corpus folder, one file each.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let Some(corpus) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: write_seeds CORPUS");
        std::process::exit(2);
    };
    for (target, name, bytes) in fuzz::seeds::all() {
        let folder = corpus.join(target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(name), bytes)?;
    }
    Ok(())
}
