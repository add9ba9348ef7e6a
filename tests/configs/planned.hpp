// The ready files under configs/, planned over true-size checkpoints.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "plan/plan.hpp"

namespace loadstone::testing {

/// A file under configs/FAMILY and the tensor list of that family that it is planned over.
struct ReadyConfig {
  std::filesystem::path file, header;

  std::string family() const { return file.parent_path().filename().string(); }
  /// The method that the file is named for: "fp8" of "fp8-keep-img-mlp.yaml".
  std::string method() const;
};

/// Every file with every header of its family under LOADSTONE_SHARED/models/headers, in order. A
/// file without a header is listed once, with an empty one.
std::vector<ReadyConfig> ready_configs();

/// Makes the plans of ready configurations. Errors of the checkpoints are thrown.
class Planned {
 public:
  Planned();

  plugin::Registry& registry() { return registry_; }

  /// The header as a checkpoint. Where `ready` asks for a method that a tool's checkpoint declares,
  /// the family's default scope is stored as that tool writes it.
  std::shared_ptr<const formats::Checkpoint> checkpoint(const ReadyConfig& ready) const;
  Result<config::QuantConfig> quantization(const ReadyConfig& ready);
  /// Graph and plan.
  Result<plan::Plan> plan(const std::shared_ptr<const formats::Checkpoint>& checkpoint,
                          const config::QuantConfig& quantization);

 private:
  plugin::Registry registry_;
};

}  // namespace loadstone::testing
