// Flow-matching Euler schedule (diffusers' FlowMatchEulerDiscreteScheduler, deterministic form).
//
// S steps over N image tokens; float32 arithmetic in this order unless said:
//   s      = linspace(1, 1/S, S)                                   float64, then rounded
//   shifted, use_dynamic_shifting:
//     m    = (max_shift - base_shift) / (max_image_seq_len - base_image_seq_len)     float64
//     mu   = N·m + (base_shift - base_image_seq_len·m)                               float64
//     E    = float32(exp(mu)) (exponential), float32(mu) (linear)
//     t    = E / (E + (1/s - 1))
//   shifted, else: t = shift·s / (1 + (shift - 1)·s)
//   with shift_terminal: r = 1 - t;  k = r[S-1] / float32(1 - shift_terminal);  sigma = 1 - r/k
//   else sigma = t;  0 is appended;  timesteps = sigma·num_train_timesteps
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.hpp"
#include "base/tree.hpp"

namespace loadstone::scheduler {

struct FlowMatchConfig {
  int64_t num_train_timesteps = 1000;
  double shift = 1.0;
  bool use_dynamic_shifting = false;
  bool exponential = true;  // time_shift_type
  double base_shift = 0.5, max_shift = 1.15;
  int64_t base_image_seq_len = 256, max_image_seq_len = 4096;
  std::optional<double> shift_terminal;
};

/// scheduler_config.json. Errors: unsupported for another class or for a variant that changes the
/// schedule (Karras, exponential or beta sigmas, inverted, stochastic); invalid_checkpoint for
/// values of a wrong type or range.
Result<FlowMatchConfig> read_flow_match_config(const Node& config);

struct Schedule {
  double mu = 0;                 // 0 without dynamic shifting
  std::vector<float> sigmas;     // S+1, the last is 0
  std::vector<float> timesteps;  // S
};

/// Errors: invalid_argument for no steps or tokens, or where the stretch to shift_terminal divides
/// by zero (one step).
Result<Schedule> make_schedule(const FlowMatchConfig& config, int64_t steps, int64_t image_tokens);

}  // namespace loadstone::scheduler
