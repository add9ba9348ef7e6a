#include "plan/ask.hpp"

#include <map>

#include "base/text.hpp"

namespace loadstone::plan {

namespace {

constexpr uint64_t kMaxValueNbytes = 1u << 20;  // a group, plugin interface

class Asking {
 public:
  Asking(const formats::Checkpoint& checkpoint, const graph::Graph& graph,
         const graph::Layer& layer, const plugin::MethodConfig& config)
      : checkpoint_(checkpoint),
        component_(checkpoint.components[graph.components[layer.component].checkpoint_component]),
        layer_(layer),
        config_(config) {}

  /// Reads every tensor that the answer still misses; false if there is none.
  Result<bool> read_missing(const plugin::LayerAnswer& answer, LayerView& view,
                            std::vector<Value>& values) {
    bool any = false;
    for (const ls_source& source : answer.sources) {
      if (source.mode != LS_SOURCE_NEEDS_VALUE || known(source.tensor, values)) continue;
      LS_TRY(Value value, read(source.tensor));
      view.set_value(value.tensor, value.bytes->data());
      values.push_back(std::move(value));
      any = true;
    }
    return any;
  }

 private:
  static bool known(uint32_t tensor, const std::vector<Value>& values) {
    for (const Value& value : values) {
      if (value.tensor == tensor) return true;
    }
    return false;
  }

  Result<Value> read(uint32_t index) {
    const graph::LayerTensor& tensor = layer_.tensors[index];
    const formats::TensorEntry& entry = component_.tensors[tensor.tensor];
    uint64_t& sum = nbytes_of_group_[tensor.group];
    sum += entry.nbytes;
    if (sum > kMaxValueNbytes) {
      return Error{Code::internal, "method asks for too much while planning",
                   escaped(layer_.path) + " (" + std::string(config_.method().name()) +
                       "): " + escaped(entry.name),
                   "found " + std::to_string(sum) + " bytes in group " +
                       std::to_string(tensor.group) + ", expected at most " +
                       std::to_string(kMaxValueNbytes),
                   ""};
    }
    auto bytes = std::make_shared<std::vector<std::byte>>(entry.nbytes);
    LS_CHECK(checkpoint_.files[entry.file].file->read_exact(*bytes, entry.offset));
    return Value{index, std::move(bytes)};
  }

  const formats::Checkpoint& checkpoint_;
  const formats::Component& component_;
  const graph::Layer& layer_;
  const plugin::MethodConfig& config_;
  std::map<uint32_t, uint64_t> nbytes_of_group_;
};

}  // namespace

Result<Asked> ask(const formats::Checkpoint& checkpoint, const graph::Graph& graph,
                  const graph::Layer& layer, const plugin::MethodConfig& config,
                  const Target& target, uint32_t want, DType load_dtype) {
  LayerView view(checkpoint, graph, layer, want, load_dtype);
  ls_target abi = to_abi(target);
  Asking asking(checkpoint, graph, layer, config);
  Asked asked;
  // Each round reads at least one more tensor, so their number bounds the rounds.
  for (size_t round = 0; round <= layer.tensors.size(); ++round) {
    LS_TRY(asked.answer, plugin::ask_plan(config, view.get(), abi));
    LS_TRY(bool again, asking.read_missing(asked.answer, view, asked.values));
    if (!again) return asked;
  }
  return Error{Code::internal, "method asks for values without end", escaped(layer.path),
               "found method " + quoted(config.method().name()), ""};
}

}  // namespace loadstone::plan
