//! Small disks, and full ones, with a file system's own answers.

use std::fs;
use std::io::ErrorKind;

use freshet_e2e::faults::{SmallDisk, fill};
use freshet_e2e::servers::Scratch;

const MIB: u64 = 1 << 20;

#[test]
fn a_small_disk_fills_up_and_has_room_again() {
    let scratch = Scratch::new("faults-disk").unwrap();
    let path = scratch.path().join("small");
    let disk = SmallDisk::mount(&path, MIB).unwrap();
    let file = disk.path().join("file");
    fs::write(&file, "before").unwrap();
    assert_eq!(fs::write(&file, vec![0; 2 * MIB as usize]).unwrap_err().kind(), ErrorKind::StorageFull);
    fs::write(&file, "before").unwrap();

    let undo = fill(disk.path(), 2 * MIB).unwrap();
    let more = disk.path().join("more");
    assert_eq!(fs::write(&more, [1; 5000]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(fs::read_to_string(&file).unwrap(), "before", "what was there can still be read");
    undo.now().unwrap();
    fs::write(&more, [1; 5000]).unwrap();

    disk.unmount().unwrap();
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "it is still mounted");
}

#[test]
fn a_disk_that_is_not_small_is_not_filled() {
    let scratch = Scratch::new("faults-large").unwrap();
    let error = fill(scratch.path(), MIB).unwrap_err().to_string();
    assert!(error.contains("not the small disk"), "{error}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "what was written stayed");
}

#[test]
fn a_small_disk_goes_with_a_test_that_fails() {
    let scratch = Scratch::new("faults-disk-fails").unwrap();
    let path = scratch.path().join("small");
    let mounted = path.clone();
    let thread = std::thread::spawn(move || {
        let disk = SmallDisk::mount(&mounted, MIB).unwrap();
        fs::write(disk.path().join("file"), "x").unwrap();
        panic!("as a test that fails");
    });
    thread.join().expect_err("it panicked");
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0, "it is still mounted");
}
