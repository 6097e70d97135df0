//! Every kernel's numbers without a GPU: the sources that nvrtc compiles, by g++ through HIP-CPU, against bc-nn's
//! operators on the CPU and closed forms. The first run compiles them (a minute or two).

#![allow(unsafe_code, reason = "kernels by their addresses")]

mod common;

use std::sync::{Arc, OnceLock};

use bc_cuda::device::Device;
use bc_cuda::{Gpu, Precision};

/// A separate device for each test; `None`, and a recorded skip, where something is missing.
fn device() -> Option<Arc<dyn Device>> {
    static DEVICE: OnceLock<Result<Arc<dyn Device>, String>> = OnceLock::new();
    let hip_cpu = bc_testing::shared("cuda/hip-cpu")?;
    let device = DEVICE.get_or_init(|| match bc_cuda::emulated::missing(&hip_cpu) {
        Some(missing) => Err(missing),
        None => Ok(bc_cuda::emulated::open(&hip_cpu).expect("the kernels compile with g++")),
    });
    match device {
        Ok(device) => Some(Arc::clone(device)),
        Err(missing) => {
            bc_testing::skipped(format_args!("kernels on CPU threads: {missing}"));
            None
        }
    }
}

fn with_gpu(precisions: &[Precision], check: impl Fn(&Gpu)) {
    let Some(device) = device() else { return };
    for precision in precisions {
        let gpu = Gpu::new(Arc::clone(&device), *precision);
        check(&gpu);
        assert_eq!(gpu.usage().used, 0, "all memory was given back");
    }
}

const BOTH: [Precision; 2] = [Precision::F32, Precision::Bf16];

#[test]
fn conversions_round_to_nearest_even() {
    with_gpu(&BOTH[..1], common::conversions);
}

#[test]
fn norms_are_those_of_the_cpu() {
    with_gpu(&BOTH[..1], common::norms);
}

#[test]
fn norms_of_two_processes_are_those_of_the_whole_batch() {
    with_gpu(&BOTH[..1], common::norms_with_peers);
}

#[test]
fn pools_are_those_of_the_cpu() {
    with_gpu(&BOTH[..1], common::pools);
}

#[test]
fn convolutions_are_those_of_the_cpu() {
    with_gpu(&BOTH, common::convolutions);
}

#[test]
fn linear_layers_are_products() {
    with_gpu(&BOTH, common::linears);
}

#[test]
fn cross_entropies_are_those_of_the_cpu() {
    with_gpu(&BOTH[..1], common::cross_entropies);
}

#[test]
fn triplets_are_mined_and_weighed_as_on_the_cpu() {
    with_gpu(&BOTH[..1], common::triplets);
}

#[test]
fn steps_are_pytorchs() {
    with_gpu(&BOTH[..1], common::optimisers);
}

#[test]
fn batches_arrive_in_their_order() {
    with_gpu(&BOTH[..1], common::uploads);
}

#[test]
fn a_batch_is_not_written_over_one_that_is_read() {
    let Some(device) = device() else { return };
    let mut slot = device.staging(8).unwrap();
    let refused = |result: bc_cuda::Result<()>, why: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    };
    refused(slot.receive().map(drop), "no batch was sent");
    slot.send(&[1; 8]).unwrap();
    // Sent anew: nobody has received the first.
    slot.send(&[2; 8]).unwrap();
    let address = slot.receive().unwrap();
    let read = || {
        let mut found = [0; 8];
        // SAFETY: the slot has as many bytes.
        unsafe { device.read(&mut found, address).unwrap() };
        found
    };
    assert_eq!(read(), [2; 8]);
    refused(slot.send(&[3; 8]), "still read");
    assert_eq!(read(), [2; 8]);
    slot.release().unwrap();
    assert_eq!(read(), [0xff; 8], "what is read too late is no number");
    refused(slot.release(), "nobody has received");
    slot.send(&[4; 8]).unwrap();
    assert_eq!(read(), [0xff; 8], "what is read too early is no number");
    refused(slot.send(&[5; 9]), "9 bytes");
}

#[test]
fn memory_is_used_again() {
    with_gpu(&BOTH[..1], common::memory);
}

#[test]
fn a_kernel_that_is_not_there_is_an_error() {
    let Some(device) = device() else { return };
    let launch =
        bc_cuda::device::Launch { kernel: "no_such_kernel".to_owned(), grid: [1; 3], arguments: Vec::new() };
    // SAFETY: there is no such kernel, so nothing runs.
    let error = unsafe { device.launch(&launch) }.unwrap_err().to_string();
    assert!(error.contains("no_such_kernel"), "{error}");
}
