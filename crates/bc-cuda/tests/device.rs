//! Every operator on a CUDA device (`BYTECOVER_DEVICE`, else cuda:0) against bc-nn's on the CPU: the same checks as of the
//! kernels on CPU threads, and what those cannot show: cuDNN, cuBLAS, the order of streams, the driver's errors.
#![cfg(feature = "cuda")]

mod common;

use std::sync::{Arc, OnceLock};

use bc_cuda::cuda::{self, Communicator, CudaDevice};
use bc_cuda::{Convolution, Element, Error, Gpu, Padding, Peers, Precision, Shape};

/// The device; `None`, and a recorded skip, without a driver. Whatever else is missing fails.
fn device() -> Option<Arc<CudaDevice>> {
    static DEVICE: OnceLock<Arc<CudaDevice>> = OnceLock::new();
    if !cuda::is_driver_present() {
        bc_testing::skipped("no CUDA driver on this machine");
        return None;
    }
    let name = std::env::var("BYTECOVER_DEVICE").unwrap_or_else(|_| "cuda:0".to_owned());
    let open = || cuda::open(&name).unwrap_or_else(|error| panic!("{error}"));
    Some(Arc::clone(DEVICE.get_or_init(open)))
}

fn with_gpu(precisions: &[Precision], check: impl Fn(&Gpu)) {
    /// One thread queues at a time.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let Some(device) = device() else { return };
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for precision in precisions {
        let gpu = Gpu::new(Arc::clone(&device) as Arc<dyn bc_cuda::device::Device>, *precision);
        check(&gpu);
        gpu.synchronize().unwrap();
    }
}

const F32: [Precision; 1] = [Precision::F32];
const ALL: [Precision; 3] = [Precision::F32, Precision::Tf32, Precision::Bf16];

#[test]
fn conversions_round_to_nearest_even() {
    with_gpu(&F32, common::conversions);
}

#[test]
fn norms_are_those_of_the_cpu() {
    with_gpu(&F32, common::norms);
}

#[test]
fn norms_of_two_processes_are_those_of_the_whole_batch() {
    with_gpu(&F32, common::norms_with_peers);
}

#[test]
fn pools_are_those_of_the_cpu() {
    with_gpu(&F32, common::pools);
}

#[test]
fn convolutions_are_those_of_the_cpu() {
    with_gpu(&ALL, common::convolutions);
}

#[test]
fn linear_layers_are_products() {
    with_gpu(&ALL, common::linears);
}

#[test]
fn cross_entropies_are_those_of_the_cpu() {
    with_gpu(&F32, common::cross_entropies);
}

#[test]
fn triplets_are_mined_and_weighed_as_on_the_cpu() {
    with_gpu(&F32, common::triplets);
}

#[test]
fn steps_are_pytorchs() {
    with_gpu(&F32, common::optimisers);
}

#[test]
fn batches_arrive_in_their_order() {
    with_gpu(&F32, common::uploads);
}

#[test]
fn memory_is_used_again() {
    with_gpu(&F32, common::memory);
}

/// The same bits from two passes over a convolution of the big network, in every precision.
#[test]
fn convolutions_are_deterministic() {
    with_gpu(&ALL, |gpu| {
        let (inputs, outputs) = (256, 256);
        let sizes = Convolution {
            inputs,
            outputs,
            kernel: [3, 3],
            stride: [1, 1],
            padding: Padding::symmetric(1, 1),
        };
        let shape = Shape::new(inputs, 8, 11, 27);
        let masters = gpu.upload(&common::values(sizes.weights(), 1)).unwrap();
        let mut copies = gpu.weight_copies(masters.len()).unwrap();
        gpu.refresh_weights(&gpu.runs(&[(0, sizes)]).unwrap(), &masters, &mut copies).unwrap();
        let image =
            |seed| gpu.upload_image(&common::values(shape.count(), seed), shape, gpu.element()).unwrap();
        let (x, dy) = (image(2), image(3));
        let pass = || {
            let y = gpu.conv(&x, &copies, 0, &sizes).unwrap();
            let dx = gpu.conv_input_gradient(&dy, &copies, 0, &sizes, shape, None).unwrap();
            let mut gradients = gpu.zeros(sizes.weights()).unwrap();
            gpu.conv_weight_gradient(&x, &dy, &sizes, &mut gradients, 0).unwrap();
            let all = [gpu.read_image(&y).unwrap(), gpu.read_image(&dx).unwrap()];
            (all, gpu.read(&gradients, 0, sizes.weights()).unwrap())
        };
        assert!(pass() == pass(), "{:?}", gpu.precision());
    });
}

/// A group of one: NCCL is loaded, joined and left, and gives back what it got.
#[test]
fn nccl_exchanges() {
    let Some(device) = device() else { return };
    if let Err(error) = cuda::require_nccl() {
        bc_testing::skip!("{error}");
    }
    with_gpu(&F32, |gpu| {
        for in_order in [true, false] {
            let peers = Communicator::new(&device, cuda::new_id().unwrap(), [0, 1], in_order).unwrap();
            let own = common::values(5_000_000, 1);
            let mut values = gpu.upload(&own).unwrap();
            let all = peers.gather(gpu, &values).unwrap();
            assert!(gpu.read(&all, 0, all.len()).unwrap() == own);
            peers.sum(gpu, &mut values).unwrap();
            assert!(gpu.read(&values, 0, own.len()).unwrap() == own);
        }
    });
}

#[test]
fn a_machine_without_nccl_says_what_to_install() {
    let (Err(error), Err(other)) = (cuda::require_nccl(), cuda::new_id()) else {
        bc_testing::skip!("NCCL is there");
    };
    for error in [error.to_string(), other.to_string()] {
        assert!(error.contains("libnccl.so") && error.contains("cuda-toolkit.sh"), "{error}");
    }
}

#[test]
fn too_much_memory_is_refused_with_what_there_is() {
    with_gpu(&F32, |gpu| {
        let held: Vec<_> = (0..400).map_while(|_| gpu.buffer::<f32>(1 << 30).ok()).collect();
        let error = gpu.buffer::<f32>(1 << 30).unwrap_err();
        assert!(matches!(error, Error::OutOfMemory { free, total, .. } if free < total), "{error}");
        assert!(error.to_string().contains("4.0 GiB more"), "{error}");
        drop(held);
        gpu.trim();
        // The device is as good as before.
        let image = gpu.upload_image(&[1.0, 2.0], Shape::matrix(1, 2), Element::F32).unwrap();
        assert_eq!(gpu.read_image(&image).unwrap(), [1.0, 2.0]);
    });
}

#[test]
fn a_device_that_is_not_there_is_named() {
    if device().is_some() {
        let error = cuda::open("cuda:99").err().expect("there are not so many").to_string();
        assert!(error.contains("cuda:99"), "{error}");
    }
}
