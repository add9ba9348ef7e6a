// What a running network and its layers tell each other.
#pragma once

#include <ATen/core/Tensor.h>
#include <loadstone/plugin.h>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/parallel.hpp"
#include "base/result.hpp"
#include "plan/attention.hpp"

namespace loadstone::runtime {

/// Shared by the layers of one pipeline, used by the thread that runs it.
struct RunState {
  ls_step step{sizeof(ls_step), 0, 0, 0};
  /// The first error of a layer. Networks return tensors, not results: a layer that fails leaves
  /// zeros and its error here, and whoever runs the network looks before using the output.
  std::optional<Error> failure;
  /// Sees input [m, in] and output [m, out] of every linear layer, when set.
  std::function<void(const std::string& component, const std::string& path, const at::Tensor& x,
                     const at::Tensor& y)>
      observer;

  /// What a layer computes may depend on the step: it says here, under its own address, a number
  /// that differs where its kernels do. Asked with the step that comes next.
  std::map<const void*, std::function<Result<uint64_t>(const ls_step& step)>> forms;
  /// Whether kernels that are launched again and again may be recorded (runtime/replay.hpp), and
  /// why some weren't.
  bool recording = false;
  std::string not_recorded;

  /// What the plan asks of attention; null: nothing. Lives in the model.
  const plan::AttentionPlan* attention = nullptr;
  /// Calls of attention that could run quantized, and those that did, of one run.
  uint64_t attention_calls = 0, attention_quantized = 0;
  /// Whether attention whose layer the plan wants quantized is so at this step.
  bool runs_fp8_attention(bool wanted) const {
    return wanted && attention != nullptr && attention->quantizes_step(step.index);
  }
  /// Counts a step's, of `passes` through the network: recorded kernels don't come by here.
  void count_attention(uint64_t passes) {
    if (attention == nullptr) return;
    attention_calls += passes * attention->sites.size();
    for (const plan::AttentionSite& site : attention->sites) {
      attention_quantized += runs_fp8_attention(site.quantized) ? passes : 0;
    }
  }

  const CancelToken* cancel = nullptr;

  Result<std::vector<uint64_t>> forms_now() const {
    std::vector<uint64_t> out;
    for (const auto& [layer, form] : forms) {
      LS_TRY(const uint64_t number, form(step));
      out.push_back(number);
    }
    return out;
  }

  /// Whether going on is of no use: networks ask between blocks and return early.
  bool stopped() const { return failure.has_value() || (cancel != nullptr && cancel->cancelled()); }
  void fail(Error error) {
    if (!failure) failure = std::move(error);
  }
  /// The failure, once; a cancel as an error.
  Status take_failure() {
    if (cancel != nullptr && cancel->cancelled()) {
      failure.reset();
      return Error{Code::cancelled, "cancelled", "", "", "", {}};
    }
    if (!failure) return {};
    Error error = std::move(*failure);
    failure.reset();
    return error;
  }
};

}  // namespace loadstone::runtime
