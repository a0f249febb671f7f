//! What every disk must do; each check has a directory of its own.

use std::future::Future;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use foreshard_engine::error::Error;
use foreshard_engine::io::buffer::{ALIGNMENT, AlignedBuf};
use foreshard_engine::io::disk::{Disk, File, OpenMode, Write};

/// Checks the whole contract in `root`, which must be an existing directory.
pub(crate) async fn check(disk: Rc<dyn Disk>, root: &Path) {
    run(&disk, root, "write", writes_are_read_back).await;
    run(&disk, root, "end", reads_end_at_the_end).await;
    run(&disk, root, "open", open_modes_are_kept).await;
    run(&disk, root, "names", names_change_as_asked).await;
    run(&disk, root, "dirs", directories_are_made_listed_and_removed).await;
    run(&disk, root, "unlinked", an_unlinked_file_stays_readable).await;
    run(&disk, root, "allocate", allocation_leaves_the_length).await;
    run(&disk, root, "concurrent", operations_overlap_and_begin_at_the_call).await;
    run(&disk, root, "dropped", a_dropped_future_does_not_cancel).await;
    run(&disk, root, "model", random_operations_match_a_model).await;
}

async fn run<F: Future<Output = ()>>(
    disk: &Rc<dyn Disk>,
    root: &Path,
    name: &str,
    check: impl FnOnce(Rc<dyn Disk>, PathBuf) -> F,
) {
    let dir = root.join(name);
    disk.create_dir(&dir).await.unwrap();
    Box::pin(check(Rc::clone(disk), dir)).await;
}

async fn writes_are_read_back(disk: Rc<dyn Disk>, dir: PathBuf) {
    let file = create(&disk, &dir.join("f")).await;
    assert_eq!(file.path(), dir.join("f"));
    for (block, durability) in [(0, Write::Plain), (3, Write::Synced), (1, Write::Synced), (1, Write::Plain)]
    {
        write(&file, block, durability).await;
    }
    file.sync().await.unwrap();
    disk.sync_dir(&dir).await.unwrap();
    assert_eq!(file.size().await.unwrap(), 4 * 4096);
    assert_eq!(blocks(&file, 0, 4).await, [1, 2, 0, 4], "the gap reads as zeros");
    let large = AlignedBuf::from_slice(&vec![0x5a; 3 << 20]);
    let (large, written) = file.write_at(large, 8192, Write::Synced).await;
    written.unwrap();
    let (read, count) = file.read_at(AlignedBuf::zeroed(3 << 20), 8192).await;
    assert_eq!(count.unwrap(), 3 << 20);
    assert!(*read == *large);
}

async fn reads_end_at_the_end(disk: Rc<dyn Disk>, dir: PathBuf) {
    let file = create(&disk, &dir.join("f")).await;
    assert_eq!(read(&file, 0, 4096).await, 0);
    write(&file, 0, Write::Plain).await;
    write(&file, 1, Write::Plain).await;
    assert_eq!(read(&file, 0, 4096).await, 4096);
    assert_eq!(read(&file, 4096, 16 * 4096).await, 4096);
    assert_eq!(read(&file, 8192, 4096).await, 0);
    assert_eq!(read(&file, 1 << 30, 4096).await, 0);
}

async fn open_modes_are_kept(disk: Rc<dyn Disk>, dir: PathBuf) {
    let path = dir.join("f");
    for mode in [OpenMode::Read, OpenMode::ReadWrite, OpenMode::CachedReadWrite] {
        assert_eq!(kind(&disk.open(&path, mode).await.unwrap_err()), ErrorKind::NotFound);
    }
    assert_eq!(kind(&disk.open(&dir.join("no/f"), OpenMode::Create).await.unwrap_err()), ErrorKind::NotFound);
    let file = create(&disk, &path).await;
    write(&file, 0, Write::Plain).await;
    for mode in [OpenMode::Create, OpenMode::CachedCreate] {
        let refused = disk.open(&path, mode).await.unwrap_err();
        assert_eq!(kind(&refused), ErrorKind::AlreadyExists);
        assert!(refused.to_string().contains(path.to_str().unwrap()), "{refused} names the file");
    }
    let reader = disk.open(&path, OpenMode::Read).await.unwrap();
    assert_eq!(blocks(&reader, 0, 1).await, [1]);
    let writer = disk.open(&path, OpenMode::ReadWrite).await.unwrap();
    write(&writer, 1, Write::Plain).await;
    assert_eq!(blocks(&reader, 0, 2).await, [1, 2]);
    let cached = disk.open(&path, OpenMode::CachedReadWrite).await.unwrap();
    write(&cached, 2, Write::Plain).await;
    assert_eq!(
        blocks(&reader, 0, 3).await,
        [1, 2, 3],
        "whoever reads past the page cache sees what is in it"
    );
    let cached = disk.open(&dir.join("g"), OpenMode::CachedCreate).await.unwrap();
    write(&cached, 0, Write::Synced).await;
    cached.sync().await.unwrap();
    assert_eq!(blocks(&cached, 0, 1).await, [1]);
}

async fn names_change_as_asked(disk: Rc<dyn Disk>, dir: PathBuf) {
    let [a, b, c] = ["a", "b", "c"].map(|name| dir.join(name));
    for (number, path) in [&a, &b].into_iter().enumerate() {
        write(&create(&disk, path).await, number as u64, Write::Plain).await;
    }
    assert_eq!(kind(&disk.rename(&c, &a).await.unwrap_err()), ErrorKind::NotFound);
    disk.rename(&a, &b).await.unwrap();
    assert_eq!(disk.list(&dir).await.unwrap(), ["b"]);
    let moved = disk.open(&b, OpenMode::Read).await.unwrap();
    assert_eq!(moved.size().await.unwrap(), 4096, "the name was replaced");
    disk.link(&b, &c).await.unwrap();
    assert_eq!(kind(&disk.link(&b, &c).await.unwrap_err()), ErrorKind::AlreadyExists);
    assert_eq!(kind(&disk.link(&a, &c).await.unwrap_err()), ErrorKind::NotFound);
    disk.remove(&b).await.unwrap();
    assert_eq!(kind(&disk.remove(&b).await.unwrap_err()), ErrorKind::NotFound);
    let linked = disk.open(&c, OpenMode::Read).await.unwrap();
    assert_eq!(blocks(&linked, 0, 1).await, [1]);
    assert!(disk.exists(&c).await.unwrap() && !disk.exists(&b).await.unwrap());
    disk.sync_dir(&dir).await.unwrap();
}

async fn directories_are_made_listed_and_removed(disk: Rc<dyn Disk>, dir: PathBuf) {
    let (sub, deep) = (dir.join("sub"), dir.join("sub/deep"));
    assert_eq!(kind(&disk.create_dir(&deep).await.unwrap_err()), ErrorKind::NotFound);
    assert_eq!(kind(&disk.list(&sub).await.unwrap_err()), ErrorKind::NotFound);
    assert_eq!(kind(&disk.sync_dir(&sub).await.unwrap_err()), ErrorKind::NotFound);
    disk.create_dir(&sub).await.unwrap();
    disk.create_dir(&sub).await.unwrap();
    disk.create_dir(&deep).await.unwrap();
    for name in ["z", "a", "m"] {
        create(&disk, &sub.join(name)).await;
    }
    assert_eq!(disk.list(&sub).await.unwrap(), ["a", "deep", "m", "z"]);
    assert_eq!(disk.list(&dir).await.unwrap(), ["sub"]);
    assert_eq!(kind(&disk.remove_dir(&sub).await.unwrap_err()), ErrorKind::DirectoryNotEmpty);
    disk.remove_dir(&deep).await.unwrap();
    assert!(!disk.exists(&deep).await.unwrap() && disk.exists(&sub).await.unwrap());
    disk.sync_dir(&sub).await.unwrap();
    assert!(disk.free_bytes(&dir).await.unwrap() > 0);
}

async fn an_unlinked_file_stays_readable(disk: Rc<dyn Disk>, dir: PathBuf) {
    let path = dir.join("f");
    let file = create(&disk, &path).await;
    write(&file, 0, Write::Plain).await;
    disk.remove(&path).await.unwrap();
    write(&file, 1, Write::Plain).await;
    assert_eq!(blocks(&file, 0, 2).await, [1, 2]);
    let other = create(&disk, &path).await;
    assert_eq!(other.size().await.unwrap(), 0);
}

async fn allocation_leaves_the_length(disk: Rc<dyn Disk>, dir: PathBuf) {
    let file = create(&disk, &dir.join("f")).await;
    file.allocate(1 << 20).await.unwrap();
    assert_eq!(file.size().await.unwrap(), 0);
    write(&file, 2, Write::Synced).await;
    assert_eq!(blocks(&file, 0, 3).await, [0, 0, 3]);
}

async fn operations_overlap_and_begin_at_the_call(disk: Rc<dyn Disk>, dir: PathBuf) {
    let file = create(&disk, &dir.join("f")).await;
    let writes: Vec<_> =
        (0..200).map(|block| file.write_at(page(block), block * 4096, Write::Plain)).collect();
    // Waited for in the opposite order: each was begun by its call.
    for write in writes.into_iter().rev() {
        write.await.1.unwrap();
    }
    let reads: Vec<_> = (0..200).map(|block| file.read_at(AlignedBuf::zeroed(4096), block * 4096)).collect();
    for (block, read) in reads.into_iter().enumerate() {
        let (buf, count) = read.await;
        assert_eq!(count.unwrap(), 4096);
        assert!(*buf == *page(block as u64));
    }
}

async fn a_dropped_future_does_not_cancel(disk: Rc<dyn Disk>, dir: PathBuf) {
    let file = create(&disk, &dir.join("f")).await;
    for block in 0..50 {
        drop(file.write_at(page(block), block * 4096, Write::Plain));
        drop(file.read_at(AlignedBuf::zeroed(1 << 20), 0));
        drop(disk.open(&dir.join("f"), OpenMode::Read));
    }
    // The device may take them in any order: ask until the last is there, within a bound.
    for _ in 0..10_000 {
        if file.size().await.unwrap() == 50 * 4096
            && blocks(&file, 0, 50).await == (1..=50).collect::<Vec<u8>>()
        {
            return;
        }
    }
    panic!("the dropped writes did not happen");
}

async fn random_operations_match_a_model(disk: Rc<dyn Disk>, dir: PathBuf) {
    let seed = 20;
    let mut random = fastrand::Rng::with_seed(seed);
    let file = create(&disk, &dir.join("f")).await;
    let mut model: Vec<u8> = Vec::new();
    for step in 0..300 {
        let (offset, len) = (random.usize(..40) * ALIGNMENT, random.usize(1..10) * ALIGNMENT);
        match random.u8(..5) {
            0 | 1 => {
                let mut buf = AlignedBuf::zeroed(len);
                buf.fill(random.u8(..));
                let durability = if random.bool() { Write::Plain } else { Write::Synced };
                model.resize(model.len().max(offset + len), 0);
                model[offset..offset + len].copy_from_slice(&buf);
                file.write_at(buf, offset as u64, durability).await.1.unwrap();
            }
            2 => file.sync().await.unwrap(),
            _ => {
                let (buf, count) = file.read_at(AlignedBuf::zeroed(len), offset as u64).await;
                let expected = model.get(offset..model.len().min(offset + len)).unwrap_or_default();
                assert_eq!(count.unwrap(), expected.len(), "seed {seed}, step {step}");
                assert!(buf[..expected.len()] == *expected, "seed {seed}, step {step}");
            }
        }
        assert_eq!(file.size().await.unwrap(), model.len() as u64, "seed {seed}, step {step}");
    }
}

async fn create(disk: &Rc<dyn Disk>, path: &Path) -> Rc<dyn File> {
    disk.open(path, OpenMode::Create).await.unwrap()
}

/// A page filled with the block's number plus one.
fn page(block: u64) -> AlignedBuf {
    let mut buf = AlignedBuf::zeroed(ALIGNMENT);
    buf.fill(u8::try_from(block + 1).unwrap());
    buf
}

async fn write(file: &Rc<dyn File>, block: u64, durability: Write) {
    file.write_at(page(block), block * 4096, durability).await.1.unwrap();
}

async fn read(file: &Rc<dyn File>, offset: u64, len: usize) -> usize {
    file.read_at(AlignedBuf::zeroed(len), offset).await.1.unwrap()
}

/// The fill byte of each of `count` blocks, each uniform.
async fn blocks(file: &Rc<dyn File>, first: u64, count: usize) -> Vec<u8> {
    let (buf, read) = file.read_at(AlignedBuf::zeroed(count * ALIGNMENT), first * 4096).await;
    assert_eq!(read.unwrap(), count * ALIGNMENT);
    let uniform = |block: &[u8]| block.iter().all(|&byte| byte == block[0]);
    buf.chunks(ALIGNMENT).map(|block| if uniform(block) { block[0] } else { u8::MAX }).collect()
}

fn kind(error: &Error) -> ErrorKind {
    let Error::Io { source, .. } = error else { panic!("not an I/O error: {error}") };
    source.kind()
}
