// Test side only: memory of the GPU, and a plugin's layer bound there.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/testing/driver.hpp"

namespace loadstone::gpu_kernels {

using common::testing::Answer;
using common::testing::Driver;
using common::testing::Produced;
using common::testing::TestLayer;

inline void check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

/// Why nothing can run here, or "".
inline std::string no_gpu() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) return std::string("no GPU: ") + cudaGetErrorString(status);
  return count == 0 ? "no GPU: found none" : "";
}

#define NEED_GPU() \
  if (const std::string why = no_gpu(); !why.empty()) GTEST_SKIP() << why

/// sm of the GPU: 90.
inline uint32_t this_sm() {
  int major = 0, minor = 0;
  check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0));
  return static_cast<uint32_t>(major * 10 + minor);
}

class Memory {
 public:
  explicit Memory(uint64_t nbytes = 0) : nbytes_(nbytes) {
    if (nbytes != 0) check(cudaMalloc(&at_, nbytes));
  }
  Memory(const void* from, uint64_t nbytes) : Memory(nbytes) {
    if (nbytes != 0) check(cudaMemcpy(at_, from, nbytes, cudaMemcpyHostToDevice));
  }
  template <typename T>
  explicit Memory(const std::vector<T>& from) : Memory(from.data(), from.size() * sizeof(T)) {}
  Memory(Memory&& other) noexcept
      : at_(std::exchange(other.at_, nullptr)), nbytes_(std::exchange(other.nbytes_, 0)) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(at_, other.at_);
    std::swap(nbytes_, other.nbytes_);
    return *this;
  }
  ~Memory() { cudaFree(at_); }

  uint64_t nbytes() const { return nbytes_; }
  template <typename T = void>
  T* at(uint64_t nbytes = 0) const {
    return reinterpret_cast<T*>(static_cast<char*>(at_) + nbytes);
  }
  template <typename T>
  std::vector<T> back() const {
    std::vector<T> out(nbytes_ / sizeof(T));
    check(cudaMemcpy(out.data(), at_, out.size() * sizeof(T), cudaMemcpyDeviceToHost));
    return out;
  }

 private:
  void* at_ = nullptr;
  uint64_t nbytes_ = 0;
};

inline ls_target cuda_target(uint32_t sm) {
  ls_target target = sdk::make<ls_target>();
  target.kind = LS_TARGET_CUDA;
  target.sm = sm;
  target.name = "cuda:0";
  return target;
}

/// A layer whose stored tensors lie on the GPU.
class DeviceLayer {
 public:
  DeviceLayer(Driver& driver, TestLayer& layer, std::vector<Memory> stored, uint64_t note,
              uint32_t sm)
      : table_(driver.table()), stored_(std::move(stored)) {
    for (const Memory& one : stored_) {
      ls_buffer buffer = sdk::make<ls_buffer>();
      buffer.place = LS_PLACE_CUDA;
      buffer.at = one.at();
      buffer.nbytes = one.nbytes();
      buffers_.push_back(buffer);
    }
    for (const ls_buffer& one : buffers_) pointers_.push_back(&one);
    const ls_target target = cuda_target(sm);
    require(table_.bind(driver.config(), layer.view(), &target, note, pointers_.data(),
                        pointers_.size(), &bound_));
  }
  ~DeviceLayer() {
    if (bound_ != nullptr) table_.unbind(bound_);
  }
  DeviceLayer(const DeviceLayer&) = delete;
  DeviceLayer& operator=(const DeviceLayer&) = delete;

  /// Buffers for calls of `call.m` rows.
  void size(ls_apply& call, const ls_step& step = sdk::make<ls_step>()) {
    require(table_.variant(bound_, &step, &call.variant));
    ls_sizes sizes = sdk::make<ls_sizes>();
    require(table_.sizes(bound_, call.variant, call.m, &sizes));
    workspace_ = Memory(sizes.workspace_nbytes);
    activation_ = Memory(sizes.activation_nbytes);
    call.workspace = workspace_.at();
    call.activation = activation_.at();
  }
  void prepare(const ls_apply& call) {
    if (activation_.nbytes() != 0) require(table_.prepare(bound_, &call));
  }
  void apply(const ls_apply& call) { require(table_.apply(bound_, &call)); }

  /// y as float32, m rows of n; y lies in rows of n + 16.
  std::vector<float> run(const Driver::Run& from, uint32_t y_dtype) {
    const uint64_t item = common::float_nbytes(from.x_dtype),
                   y_item = common::float_nbytes(y_dtype);
    const Memory x(from.x, from.m * from.k * item);
    const uint64_t y_stride = from.n + 16;
    Memory y(from.m * y_stride * y_item), bias;
    ls_apply call = sdk::make<ls_apply>();
    call.m = from.m;
    call.x = x.at();
    call.y = y.at();
    call.x_dtype = from.x_dtype;
    call.y_dtype = y_dtype;
    call.x_stride = from.k;
    call.y_stride = y_stride;
    if (from.bias != nullptr) {
      bias = Memory(from.bias, from.n * common::float_nbytes(from.bias_dtype));
      call.bias = bias.at();
      call.bias_dtype = from.bias_dtype;
    }
    size(call, from.step);
    prepare(call);
    apply(call);
    check(cudaDeviceSynchronize());
    const auto bytes = y.back<char>();
    std::vector<float> out(from.m * from.n);
    for (uint64_t i = 0; i < from.m; ++i) {
      common::widen(y_dtype, bytes.data() + i * y_stride * y_item, &out[i * from.n], from.n);
    }
    return out;
  }

 private:
  static void require(int32_t status) {
    if (status != LS_OK) throw std::runtime_error("plugin failed: " + Driver::last_failure());
  }

  const ls_method& table_;
  std::vector<Memory> stored_;
  std::vector<ls_buffer> buffers_;
  std::vector<const ls_buffer*> pointers_;
  ls_bound* bound_ = nullptr;
  Memory workspace_, activation_;
};

inline std::vector<Memory> to_device(Produced& produced) {
  std::vector<Memory> out;
  for (auto& block : produced.blocks) out.emplace_back(block.at(), block.nbytes());
  return out;
}

}  // namespace loadstone::gpu_kernels
