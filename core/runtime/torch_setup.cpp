#include "runtime/torch_setup.hpp"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <torch/headeronly/version.h>

#include <cstdint>
#include <exception>
#include <limits>
#include <string>

#include "base/parallel.hpp"
#include "plugin/registry.hpp"
#include "runtime/gemm.hpp"

extern "C" uint64_t aoti_torch_abi_version();  // of the library that was found at start

namespace loadstone::runtime {
namespace {

/// The version number's bytes are major, minor, patch from the top.
std::string version_text(uint64_t number) {
  return std::to_string(number >> 56) + "." + std::to_string((number >> 48) & 0xFF) + "." +
         std::to_string((number >> 40) & 0xFF);
}

}  // namespace

namespace {

Error cannot_use(int32_t index, std::string found) {
  return Error{Code::unsupported,
               "cannot use cuda:" + std::to_string(index),
               "LibTorch",
               "found " + std::move(found) + ", expected LibTorch's CUDA libraries",
               "",
               {}};
}

}  // namespace

Status set_up_cuda(int32_t index) {
  // Its kernels enter themselves into LibTorch's tables as it is opened. Never closed.
  static void* const library = dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL);
  static const char* const why = library == nullptr ? dlerror() : nullptr;
  if (library == nullptr) return cannot_use(index, why == nullptr ? "no reason" : why);
  try {
    at::globalContext().lazyInitDevice(at::kCUDA);
    at::globalContext().setAllowTF32CuBLAS(false);
    at::globalContext().setAllowTF32CuDNN(false);
  } catch (const std::exception& error) {
    const std::string text = error.what();
    return cannot_use(index, text.substr(0, text.find('\n')));
  }
  return {};
}

void wait_for(c10::Device device) {
  if (device.is_cpu()) return;
  c10::impl::VirtualGuardImpl(device.type()).getStream(device).synchronize();
}

uint64_t free_nbytes(c10::Device device) {
  if (device.is_cpu()) return std::numeric_limits<uint64_t>::max();
  c10::DeviceAllocator* allocator = c10::getDeviceAllocator(device.type());
  const auto stats = allocator->getDeviceStats(device.index());
  constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  const int64_t unused =
      stats.reserved_bytes.at(kAll).current - stats.allocated_bytes.at(kAll).current;
  return allocator->getMemoryInfo(device.index()).first + static_cast<uint64_t>(unused);
}

Compute compute_of(const config::RunSection& run) {
  switch (run.compute) {
    case DType::BF16:
      return Compute::bf16;
    case DType::F16:
      return Compute::f16;
    default:
      return Compute::f32;
  }
}

c10::ScalarType scalar_type_of(Compute compute) {
  switch (compute) {
    case Compute::bf16:
      return c10::kBFloat16;
    case Compute::f16:
      return c10::kHalf;
    default:
      return c10::kFloat;
  }
}

Status set_up_torch(unsigned threads) {
  if (const uint64_t found = aoti_torch_abi_version(); found != TORCH_ABI_VERSION) {
    return Error{Code::unsupported,
                 "LibTorch of another version",
                 "",
                 "found " + version_text(found) + ", expected " + version_text(TORCH_ABI_VERSION),
                 "",
                 {}};
  }
  at::set_num_threads(static_cast<int>(threads != 0 ? threads : usable_threads()));
  plugin::set_host_gemm(&torch_gemm);
  return {};
}

}  // namespace loadstone::runtime
