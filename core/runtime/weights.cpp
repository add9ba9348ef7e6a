#include "runtime/weights.hpp"

#include "base/text.hpp"

namespace loadstone::runtime {
namespace {

Error bad_value(const Node& config, const char* key, const Node* found, const char* expected) {
  const Mark& mark = found == nullptr ? config.mark() : found->mark();
  return Error{Code::invalid_checkpoint,
               "model configuration rejected",
               mark.text(),
               "found " + (found == nullptr ? std::string("nothing") : found->describe()) + " as " +
                   key + ", expected " + expected,
               "",
               {}};
}

bool is_count(const Node& node) {
  return node.is_integer() && node.integer() >= 1 && node.integer() <= (int64_t{1} << 31);
}

}  // namespace

Result<bool> Weights::fp8_attention(const std::string& /*path*/, int64_t /*head_dim*/) const {
  return false;
}

Result<std::unique_ptr<Linear>> Weights::fused(const std::string& path,
                                               std::span<const std::string> parts) {
  if (has_layer(path)) return linear(path);
  std::vector<std::unique_ptr<Linear>> layers;
  for (const std::string& part : parts) {
    LS_TRY(auto layer, linear(part));
    if (layer->in() != (layers.empty() ? layer : layers.front())->in()) {
      return Error{Code::invalid_checkpoint,
                   "projections differ in width",
                   escaped(part),
                   "found " + std::to_string(layer->in()) + " columns, expected " +
                       std::to_string(layers.front()->in()) + " as in " + parts.front(),
                   "",
                   {}};
    }
    layers.push_back(std::move(layer));
  }
  return side_by_side(std::move(layers));
}

Result<int64_t> config_count(const Node& config, const char* key) {
  const Node* node = config.find(key);
  if (node == nullptr || !is_count(*node)) return bad_value(config, key, node, "a count");
  return node->integer();
}

Result<double> config_number(const Node& config, const char* key, double fallback) {
  const Node* node = config.find(key);
  if (node == nullptr || node->is_null()) return fallback;
  if (!node->is_numeric()) return bad_value(config, key, node, "a number");
  return node->number();
}

Result<std::vector<int64_t>> config_counts(const Node& config, const char* key) {
  const Node* node = config.find(key);
  if (node == nullptr || !node->is_list()) return bad_value(config, key, node, "a list of counts");
  std::vector<int64_t> out;
  for (const Node& item : node->items()) {
    if (!is_count(item)) return bad_value(config, key, &item, "a list of counts");
    out.push_back(item.integer());
  }
  return out;
}

Status config_must_be_off(const Node& config, const char* key) {
  const Node* node = config.find(key);
  if (node == nullptr || !node->is_bool() || !node->boolean()) return {};
  return Error{Code::unsupported,
               "model variant is not supported",
               node->mark().text(),
               "found " + std::string(key) + " true, expected false",
               "",
               {}};
}

}  // namespace loadstone::runtime
