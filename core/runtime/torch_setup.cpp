#include "runtime/torch_setup.hpp"

#include <ATen/Parallel.h>
#include <torch/headeronly/version.h>

#include <cstdint>
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
