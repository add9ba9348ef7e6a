// DLPack 1.1 views of stored tensors: plain data that numpy, torch and others take without a copy.
// The structs are declared here with DLPack's layout, so that its header isn't needed; a
// `managed_tensor*` is a `DLManagedTensorVersioned*`.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.hpp"
#include "load/loaded_model.hpp"

namespace loadstone::dlpack {

struct version {
  uint32_t major, minor;
};

struct device {
  int32_t type;  // 1: CPU, 2: CUDA
  int32_t id;
};

/// Code, bits and lanes of one element.
struct dtype {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};

enum : uint8_t {
  kInt = 0,
  kUInt = 1,
  kFloat = 2,
  kBfloat = 4,
  kComplex = 5,
  kBool = 6,
  kFloat8E4M3Fn = 10,
  kFloat8E4M3Fnuz = 11,
  kFloat8E5M2 = 12,
  kFloat8E5M2Fnuz = 13,
  kFloat8E8M0Fnu = 14,
  kFloat6E2M3Fn = 15,
  kFloat6E3M2Fn = 16,
  kFloat4E2M1Fn = 17,
};

struct tensor {
  void* at;  // first element, `byte_offset` not counted
  device on;
  int32_t rank;
  dtype type;
  int64_t* shape;    // elements
  int64_t* strides;  // elements, row-major; never null
  uint64_t byte_offset;
};

inline constexpr uint64_t kReadOnly = 1;

struct managed_tensor {
  version abi;                            // 1.1
  void* owner;                            // of the producer
  void (*destroy)(managed_tensor* self);  // the consumer calls it once, on any thread
  uint64_t flags;                         // kReadOnly
  tensor view;
};

/// A read-only view of stored tensor `stored` of layer plan `layer`; it keeps the model alive.
/// Block formats (ggml) and kernels' own layouts, which DLPack has no type for, are uint8 [bytes].
/// Errors: invalid_argument (an index out of range).
Result<managed_tensor*> view_of(std::shared_ptr<const load::LoadedModel> model, uint32_t layer,
                                uint32_t stored);

}  // namespace loadstone::dlpack
