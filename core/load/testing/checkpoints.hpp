// Tests over the checkpoints of public tools: the build's plugins, and a folder of the test's own.
// Skips visibly without shared/checkpoints.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>

#include "base/testing/shared.hpp"
#include "base/testing/temp_folder.hpp"
#include "plugin/registry.hpp"

namespace loadstone::load::testing {

class SharedCheckpoints : public ::testing::Test {
 protected:
  static std::filesystem::path checkpoints() {
    return ::loadstone::testing::shared_folder() / "checkpoints";
  }

  void SetUp() override {
    LS_NEEDS(checkpoints());
    plugin::RegistryOptions options;
    options.dirs = {std::string(LOADSTONE_BINARY_DIR) + "/plugins"};
    options.trust_writable = true;
    auto registry = plugin::Registry::scan(options);
    ASSERT_TRUE(registry.ok()) << registry.error().text();
    registry_ = std::make_unique<plugin::Registry>(std::move(registry).value());
  }

  const ::loadstone::testing::TempFolder folder_;
  const std::filesystem::path work_ = folder_.path();
  std::unique_ptr<plugin::Registry> registry_;
};

}  // namespace loadstone::load::testing
