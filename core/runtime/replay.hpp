// Kernels that are launched again and again on the same tensors, recorded once and then queued as
// one: for small models the launches take longer than the kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/run_state.hpp"

namespace loadstone::runtime {

/// What one body queues on a GPU (LibTorch's CUDAGraph). Tensors that are made while recording lie
/// in memory of the recording's own, at the same addresses at each replay.
class Graph {
 public:
  /// Runs `body` with its kernels recorded instead of executed. Errors: unsupported, with the
  /// reason that LibTorch gives, for a body that waits for the GPU, copies from pageable memory, ….
  static Result<std::unique_ptr<Graph>> record(at::Device device,
                                               const std::function<void()>& body);
  ~Graph();
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;

  /// Queued on the current stream.
  void replay();
  /// Memory that it keeps on the device.
  uint64_t nbytes() const { return nbytes_; }

 private:
  struct Handle;
  explicit Graph(std::unique_ptr<Handle> handle);
  std::unique_ptr<Handle> handle_;
  uint64_t nbytes_ = 0;
};

/// A body on fixed tensors that is run often. Its first call runs as it is, and so makes what its
/// kernels need; the second one is recorded, and from then on it is replayed. It stays as it is on
/// the CPU, where the run is observed, and where RunState::recording says no; what can't be
/// recorded leaves its reason there. What a layer does may depend on the step (RunState::forms):
/// each form is recorded by itself.
class Repeated {
 public:
  Repeated(at::Device device, std::shared_ptr<RunState> state, std::function<void()> body);

  /// Errors: what layers report, cancelled.
  Status run();
  uint64_t nbytes() const;

 private:
  struct Form {
    bool warm = false;
    std::unique_ptr<Graph> graph;
  };

  bool may_record() const;
  Status run_as_it_is();
  Status record(Form& form);

  at::Device device_;
  std::shared_ptr<RunState> state_;
  std::function<void()> body_;
  std::map<std::vector<uint64_t>, Form> forms_;
};

/// A function of one tensor, repeated for each shape that was seen lately. Inputs of more than
/// `most` elements aren't recorded: there the launches no longer count, and a recording would keep
/// the memory of all that the function makes in between.
class RepeatedFunction {
 public:
  using Function = std::function<at::Tensor(const at::Tensor&)>;

  RepeatedFunction(at::Device device, std::shared_ptr<RunState> state, Function function,
                   int64_t most)
      : device_(device), state_(std::move(state)), function_(std::move(function)), most_(most) {}
  RepeatedFunction(const RepeatedFunction&) = delete;
  RepeatedFunction& operator=(const RepeatedFunction&) = delete;

  /// x on any device. Errors: as Repeated::run. The result is overwritten by the next call with x's
  /// shape.
  Result<at::Tensor> operator()(const at::Tensor& x);
  uint64_t nbytes() const;

 private:
  struct Shape {
    at::Tensor x, y;
    std::unique_ptr<Repeated> body;
  };

  at::Device device_;
  std::shared_ptr<RunState> state_;
  Function function_;
  int64_t most_;
  std::vector<std::unique_ptr<Shape>> shapes_;  // the last used in front
};

}  // namespace loadstone::runtime
