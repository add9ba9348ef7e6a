#include "runtime/scheduler/flow_match_euler.hpp"

#include <cmath>

#include "base/text.hpp"

namespace loadstone::scheduler {
namespace {

Error rejected(const Node& at, std::string key, std::string found, std::string expected) {
  return Error{Code::invalid_checkpoint,
               "scheduler configuration rejected",
               at.mark().text(),
               "found " + std::move(found) + " as " + key + ", expected " + std::move(expected),
               "",
               {}};
}

Status read_number(const Node& config, const char* key, double& out) {
  const Node* node = config.find(key);
  if (node == nullptr || node->is_null()) return {};
  if (!node->is_numeric() || !std::isfinite(node->number())) {
    return rejected(*node, key, node->describe(), "a number");
  }
  out = node->number();
  return {};
}

Status read_count(const Node& config, const char* key, int64_t& out) {
  const Node* node = config.find(key);
  if (node == nullptr || node->is_null()) return {};
  if (!node->is_integer() || node->integer() < 1 || node->integer() > (1 << 30)) {
    return rejected(*node, key, node->describe(), "an integer from 1 to 2^30");
  }
  out = node->integer();
  return {};
}

Status read_flag(const Node& config, const char* key, bool& out) {
  const Node* node = config.find(key);
  if (node == nullptr || node->is_null()) return {};
  if (!node->is_bool()) return rejected(*node, key, node->describe(), "true or false");
  out = node->boolean();
  return {};
}

Status check_variant(const Node& config) {
  const Node* name = config.find("_class_name");
  if (name == nullptr || !name->is_text() || name->text() != "FlowMatchEulerDiscreteScheduler") {
    return Error{Code::unsupported,
                 "scheduler is not known",
                 config.mark().text(),
                 "found " + (name == nullptr ? std::string("no _class_name") : name->describe()) +
                     ", expected \"FlowMatchEulerDiscreteScheduler\"",
                 "",
                 {}};
  }
  for (const char* key : {"use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas",
                          "invert_sigmas", "stochastic_sampling"}) {
    bool on = false;
    LS_CHECK(read_flag(config, key, on));
    if (on) {
      return Error{Code::unsupported,
                   "scheduler variant is not supported",
                   config.mark().text(),
                   "found " + std::string(key) + " true, expected false",
                   "",
                   {}};
    }
  }
  return {};
}

}  // namespace

Result<FlowMatchConfig> read_flow_match_config(const Node& config) {
  LS_CHECK(check_variant(config));
  FlowMatchConfig out;
  LS_CHECK(read_count(config, "num_train_timesteps", out.num_train_timesteps));
  LS_CHECK(read_number(config, "shift", out.shift));
  LS_CHECK(read_flag(config, "use_dynamic_shifting", out.use_dynamic_shifting));
  LS_CHECK(read_number(config, "base_shift", out.base_shift));
  LS_CHECK(read_number(config, "max_shift", out.max_shift));
  LS_CHECK(read_count(config, "base_image_seq_len", out.base_image_seq_len));
  LS_CHECK(read_count(config, "max_image_seq_len", out.max_image_seq_len));
  if (out.max_image_seq_len == out.base_image_seq_len) {
    return rejected(config, "max_image_seq_len", std::to_string(out.max_image_seq_len),
                    "another value than base_image_seq_len");
  }
  double terminal = 0;
  LS_CHECK(read_number(config, "shift_terminal", terminal));
  if (terminal != 0) {
    if (terminal < 0 || terminal >= 1) {
      return rejected(config, "shift_terminal", std::to_string(terminal), "0 up to below 1");
    }
    out.shift_terminal = terminal;
  }
  if (const Node* type = config.find("time_shift_type"); type != nullptr && !type->is_null()) {
    if (!type->is_text() || (type->text() != "exponential" && type->text() != "linear")) {
      return rejected(*type, "time_shift_type", type->describe(), "\"exponential\" or \"linear\"");
    }
    out.exponential = type->text() == "exponential";
  }
  return out;
}

Result<Schedule> make_schedule(const FlowMatchConfig& config, int64_t steps, int64_t image_tokens) {
  if (steps < 1 || steps > config.num_train_timesteps || image_tokens < 1) {
    return Error{Code::invalid_argument,
                 "no schedule",
                 "",
                 "found " + std::to_string(steps) + " steps over " + std::to_string(image_tokens) +
                     " image tokens, expected 1 to " + std::to_string(config.num_train_timesteps) +
                     " steps and at least 1 token",
                 "",
                 {}};
  }
  if (steps == 1 && config.shift_terminal) {
    return Error{Code::invalid_argument,
                 "no schedule",
                 "",
                 "found 1 step with shift_terminal, expected at least 2",
                 "",
                 {}};
  }
  Schedule out;
  const auto count = static_cast<size_t>(steps);
  const double last = 1.0 / static_cast<double>(steps);
  const double spacing = steps > 1 ? (last - 1.0) / static_cast<double>(steps - 1) : 0.0;
  std::vector<float> sigmas(count);
  for (size_t i = 0; i < count; ++i) {
    sigmas[i] = static_cast<float>(static_cast<double>(i) * spacing + 1.0);
  }
  if (steps > 1) sigmas.back() = static_cast<float>(last);

  if (config.use_dynamic_shifting) {
    const double slope = (config.max_shift - config.base_shift) /
                         static_cast<double>(config.max_image_seq_len - config.base_image_seq_len);
    const double offset =
        config.base_shift - slope * static_cast<double>(config.base_image_seq_len);
    out.mu = static_cast<double>(image_tokens) * slope + offset;
    const auto e = static_cast<float>(config.exponential ? std::exp(out.mu) : out.mu);
    for (float& s : sigmas) s = e / (e + (1.0f / s - 1.0f));
  } else {
    const auto shift = static_cast<float>(config.shift);
    const auto rest = static_cast<float>(config.shift - 1.0);
    for (float& s : sigmas) s = shift * s / (1.0f + rest * s);
  }
  if (config.shift_terminal) {
    const float k = (1.0f - sigmas.back()) / static_cast<float>(1.0 - *config.shift_terminal);
    for (float& s : sigmas) s = 1.0f - (1.0f - s) / k;
  }
  out.timesteps.reserve(count);
  for (float s : sigmas) {
    out.timesteps.push_back(s * static_cast<float>(config.num_train_timesteps));
  }
  out.sigmas = std::move(sigmas);
  out.sigmas.push_back(0.0f);
  return out;
}

}  // namespace loadstone::scheduler
