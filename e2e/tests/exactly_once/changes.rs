//! SQL and policy that change under load, plans that are refused, and the end of a job.

use crate::*;

fn took_over(workers: &mut [Worker], generation: u64) {
    for worker in workers {
        worker.wait_for(&format!("\"generation\":{generation},\"incarnation\"")).unwrap();
    }
}

#[test]
fn changed_under_load_refused_and_retired() {
    let job = job("changes");
    let (code, first) = job.preflight(2, &[]).unwrap();
    assert_eq!((code, first.ok, first.changed, first.generation), (0, true, true, Some(1)), "{first:?}");
    assert_eq!((first.reason.as_str(), first.slots, first.stages), ("PreflightPassed", Some(2), 2));
    let (code, again) = job.preflight(2, &[]).unwrap();
    assert_eq!((code, again.changed, again.generation), (0, false, Some(1)), "{again:?}");

    let mut watch = watch(&job);
    let mut workers: Vec<Worker> = (0..2).map(|slot| job.worker(slot).unwrap()).collect();
    let feed = feed(&job, 41);
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the start");

    // Another plan and shorter epochs, taken over by the running workers, with their state.
    let altered = JobOptions { altered: true, epoch_interval: "100ms", ..JobOptions::default() };
    job.write_manifests(&altered).unwrap();
    let report = job.folder().join("report.json");
    let (code, second) = job.preflight(2, &["--report", &report.display().to_string()]).unwrap();
    assert_eq!((code, second.changed, second.generation), (0, true, Some(2)), "{second:?}");
    assert_ne!(second.plan_fingerprint, first.plan_fingerprint);
    assert_eq!(second.lineage, first.lineage);
    let written = std::fs::read_to_string(report).unwrap();
    assert_eq!(serde_json::from_str::<freshet_crds::control::PreflightReport>(&written).unwrap(), second);
    took_over(&mut workers, 2);
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "a compatible change");

    // Refused by name; what runs goes on.
    job.write_manifests(&JobOptions { statements: vec![Role::Copies, Role::ByKey], ..altered.clone() }).unwrap();
    let (code, refused) = job.preflight(2, &[]).unwrap();
    assert_eq!((code, refused.ok, refused.changed, refused.generation), (2, false, false, Some(2)), "{refused:?}");
    assert_eq!(refused.reason, "StateWouldBeDropped");
    assert!(refused.message.contains("by_group"), "{}", refused.message);
    job.write_manifests(&JobOptions { max_parallelism: 8, ..altered.clone() }).unwrap();
    let (code, refused) = job.preflight(2, &[]).unwrap();
    assert_eq!((code, refused.reason.as_str()), (2, "LineageRefused"), "{refused:?}");
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the refusals");

    // And back, with a worker killed on the way.
    job.write_manifests(&JobOptions::default()).unwrap();
    let (code, third) = job.preflight(2, &[]).unwrap();
    assert_eq!((code, third.generation, third.plan_fingerprint), (0, Some(3), first.plan_fingerprint));
    workers[1].kill9();
    workers[1] = job.worker(1).unwrap();
    took_over(&mut workers, 3);
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the way back");
    feed.finish().unwrap();
    job.settle_exactly(&mut watch, &mut workers).unwrap();

    // The end: nothing is left, twice over; applied again, it begins anew.
    for _ in 0..2 {
        let retired = job.run("retire", &[]).unwrap();
        assert!(retired.status.success(), "{retired:?}");
    }
    let (code, anew) = job.preflight(1, &[]).unwrap();
    assert_eq!((code, anew.generation), (0, Some(1)), "{anew:?}");
    assert_ne!(anew.lineage, first.lineage);
}

/// Another lineage follows the one that runs: its workers lose the old one and go over by themselves.
#[test]
fn a_job_begins_anew_under_its_workers() {
    let job = job("anew");
    let asks = |generation: u32| ["--asked-by=job-1".to_owned(), format!("--asked-in={generation}")];
    let preflight = |generation: u32| {
        let arguments = asks(generation);
        let (code, report) = job.preflight(2, &arguments.each_ref().map(String::as_str)).unwrap();
        assert_eq!(code, 0, "{report:?}");
        report
    };
    let first = preflight(1);
    let mut watch = watch(&job);
    let mut workers: Vec<Worker> = (0..2).map(|slot| job.worker(slot).unwrap()).collect();
    took_over(&mut workers, 1);

    let manifest = job.folder().join("manifests/job.yaml");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let anew =
        text.replacen("  maxParallelism:", "  restoreFrom: {type: None}\n  restoreNonce: a\n  maxParallelism:", 1);
    assert_ne!(anew, text);
    std::fs::write(&manifest, anew).unwrap();
    let second = preflight(2);
    assert_ne!(second.lineage, first.lineage);
    assert_eq!((second.changed, second.generation), (true, Some(1)), "{second:?}");
    let again = preflight(3);
    assert_eq!((&again.lineage, again.changed), (&second.lineage, false), "it is asked once");
    for worker in &mut workers {
        worker.wait_for("waiting for the one that follows").unwrap();
    }
    // What is fed from here on is read in the new lineage alone, and written once.
    let feed = feed(&job, 43);
    progress(&job, &mut watch, &workers.iter().collect::<Vec<_>>(), "the new lineage");
    workers[0].kill9();
    workers[0] = job.worker(0).unwrap();
    feed.finish().unwrap();
    job.settle_exactly(&mut watch, &mut workers).unwrap();
}
