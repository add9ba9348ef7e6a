// Work that a GPU may do beside the current queue's: small kernels fill what large ones leave idle.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>

#include <optional>
#include <vector>

namespace loadstone::runtime {

/// One queue beside LibTorch's current one, to begin and to join again; it may be recorded with it
/// (replay.hpp). Tensors that are made aside must be used aside, and tensors from outside kept by
/// keep() where they could be freed before the next join(). Of one thread.
class SideQueue {
 public:
  /// Not `beside`: all work goes to the current queue.
  SideQueue(at::Device device, bool beside);

  /// Queues what `body` does beside what follows, after all that is queued so far.
  template <typename Body>
  void run(const Body& body) {
    if (!side_) return body();
    begin();
    {
      const c10::StreamGuard guard(*side_);
      body();
    }
    event_->record(*side_);
    joined_ = false;
  }
  /// What is queued from here on comes after all that was queued aside.
  void join();
  /// Until the next join.
  void keep(const at::Tensor& tensor) {
    if (side_) kept_.push_back(tensor);
  }

 private:
  void begin();

  at::Device device_;
  std::optional<c10::Stream> side_;
  std::optional<c10::Event> event_;
  std::vector<at::Tensor> kept_;
  bool joined_ = true;
};

}  // namespace loadstone::runtime
