// The points of the kit. Each is a function over one method.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "conformance/checkpoint_samples.hpp"
#include "conformance/conformance.hpp"
#include "conformance/engine.hpp"
#include "plugin/library.hpp"

namespace loadstone::conformance {

struct NamedConfig {
  std::string title;  // "default", "group_size=1"
  std::shared_ptr<const plugin::MethodConfig> config;
};

/// What a point works with.
class Context {
 public:
  Context(const plugin::Library& library, const plugin::Method& method, uint64_t seed,
          double seconds);
  Status add_checkpoint(const std::string& checkpoint, const std::string& adapters_dir);

  const plugin::Library& library() const { return library_; }
  const plugin::Method& method() const { return method_; }
  /// The default configuration first, then one field changed at a time.
  const std::vector<NamedConfig>& configs() const { return configs_; }
  /// Layers of the checkpoint that was given.
  const std::vector<CheckpointSample>& samples() const { return samples_; }
  /// What configure said about the default configuration.
  const Status& default_status() const { return default_status_; }
  bool has_time() const;
  Random& random() { return random_; }
  uint64_t cases = 0;

 private:
  void make_configs();
  const plugin::Library& library_;
  const plugin::Method& method_;
  Random random_;
  std::chrono::steady_clock::time_point deadline_;
  std::vector<NamedConfig> configs_;
  std::vector<CheckpointSample> samples_;
  Status default_status_;
};

/// A layer that the method said it quantizes, with its answer.
struct Sample {
  const plugin::MethodConfig& config;
  std::string title;
  const LayerCase& layer;
  CaseView& view;
  const plugin::LayerAnswer& answer;

  Error failed(std::string detail) const {
    return Error{Code::internal, "", title, std::move(detail), ""};
  }
};

/// A small number for an error text: "3.1e-07".
std::string text_of(double value);

/// Runs `body` for every layer of the checkpoint, and every configuration and recipe that the
/// method quantizes, while there is time. What is no ordinary content leaves the checkpoint out.
/// Errors: the body's; a plan that fails otherwise than by "can't".
Status for_each_sample(Context& context, std::span<const Recipe> recipes,
                       const std::function<Status(const Sample&)>& body,
                       bool with_checkpoint = true);

/// "" when it passed, else why it was skipped; an error when it failed.
using PointFn = Result<std::string> (*)(Context&);

struct PointSpec {
  const char* name;
  const char* rule;
  PointFn run;
};

std::span<const PointSpec> all_points();

// points_plan.cpp
Result<std::string> point_schema(Context& context);
Result<std::string> point_plan(Context& context);
Result<std::string> point_ignored(Context& context);
// points_produce.cpp
Result<std::string> point_bytes(Context& context);
Result<std::string> point_split(Context& context);
Result<std::string> point_threads(Context& context);
Result<std::string> point_hostile(Context& context);
Result<std::string> point_cancel(Context& context);
// points_weights.cpp
Result<std::string> point_dequantize(Context& context);
Result<std::string> point_serialized(Context& context);
Result<std::string> point_decode(Context& context);
Result<std::string> point_repack(Context& context);
// points_apply.cpp
Result<std::string> point_apply(Context& context);
Result<std::string> point_apply_together(Context& context);
// points_abi.cpp
Result<std::string> point_struct_sizes(Context& context);
Result<std::string> point_host_tables(Context& context);

}  // namespace loadstone::conformance
