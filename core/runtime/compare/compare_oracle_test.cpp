// Every recorded answer of the reference's comparison tool: metrics and how flags become a
// configuration. Two rules are broken on purpose (reference notes, section 0.46 and 0.47):
//   - a flag that the reference drops silently is an error here
//   - infinity is the text "inf" in JSON
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/testing/shared.hpp"
#include "runtime/compare/guidance.hpp"
#include "runtime/compare/metrics.hpp"
#include "runtime/compare/variant.hpp"

namespace loadstone::compare {
namespace {

using nlohmann::json;

class CompareOracle : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto recorded = ::loadstone::testing::shared_folder() / "oracles/config-oracle.json";
    LS_NEEDS(recorded);
    entries_ = json::parse(std::ifstream(recorded));
  }

  std::vector<json> of_kind(const std::string& kind) const {
    std::vector<json> out;
    for (const json& entry : entries_) {
      if (entry["kind"] == kind) out.push_back(entry);
    }
    return out;
  }

 private:
  json entries_;
};

void flatten(const json& value, std::vector<uint8_t>& samples, std::vector<size_t>& shape,
             size_t depth = 0) {
  if (!value.is_array()) {
    samples.push_back(value.get<uint8_t>());
    return;
  }
  if (shape.size() <= depth) shape.push_back(value.size());
  for (const json& item : value) flatten(item, samples, shape, depth + 1);
}

TEST_F(CompareOracle, MetricsAgree) {
  const auto cases = of_kind("metrics");
  EXPECT_FALSE(cases.empty());
  for (const json& entry : cases) {
    SCOPED_TRACE(entry["id"].get<std::string>());
    std::vector<uint8_t> reference, candidate;
    std::vector<size_t> reference_shape, candidate_shape;
    flatten(entry["input"]["reference"], reference, reference_shape);
    flatten(entry["input"]["candidate"], candidate, candidate_shape);
    const auto made = metrics_of(reference, candidate);
    const bool same_shape = reference_shape == candidate_shape;
    ASSERT_EQ(made.ok() && same_shape, entry["result"]["ok"].get<bool>());
    if (!made.ok()) continue;
    for (const auto& [name, expected] : entry["result"]["value"].items()) {
      const double value = metric_value(*made, name).value();
      if (expected == "inf") {
        EXPECT_TRUE(std::isinf(value) && value > 0) << name;
      } else {
        EXPECT_NEAR(value, expected.get<double>(), 1e-12 * std::abs(expected.get<double>()))
            << name;
      }
    }
  }
}

std::optional<std::string> text_or_none(const json& value) {
  return value.is_null() ? std::nullopt : std::optional(value.get<std::string>());
}

/// The reference ignores a flag here (0.46).
bool drops_a_flag(const QuantizationFlags& flags) {
  return (flags.config_json && (flags.method || flags.ignored_layers)) ||
         (flags.ignored_layers && !flags.method);
}

TEST_F(CompareOracle, FlagsBecomeTheSameConfiguration) {
  const auto cases = of_kind("tool_config");
  EXPECT_FALSE(cases.empty());
  for (const json& entry : cases) {
    SCOPED_TRACE(entry["id"].get<std::string>());
    const json& input = entry["input"];
    const QuantizationFlags flags{"candidate", text_or_none(input["quantization"]),
                                  text_or_none(input["quantization_config_json"]),
                                  text_or_none(input["ignored_layers"])};
    const auto made = variant_quantization(system_files(), flags);
    if (drops_a_flag(flags)) {
      EXPECT_FALSE(made.ok()) << "a flag would be dropped";
      continue;
    }
    ASSERT_EQ(made.ok(), entry["result"]["ok"].get<bool>());
    if (!made.ok()) continue;
    const json config = made->config ? json::parse(made->config->to_json()) : json(nullptr);
    EXPECT_EQ(config, entry["result"]["value"]);
  }
}

}  // namespace
}  // namespace loadstone::compare
