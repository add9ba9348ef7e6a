#include "graph/recognise.hpp"

#include <algorithm>
#include <unordered_set>

#include "base/text.hpp"
#include "graph/modules.hpp"

namespace loadstone::graph {
namespace {

bool contains(const std::vector<std::string>& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

std::string text_at(const Node& map, std::string_view key) {
  const Node* value = map.find(key);
  return value && value->is_text() ? value->text() : "";
}

bool starts_with(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

std::string_view base_name(std::string_view path) {
  size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

/// The adapter whose pipeline class (model_index.json) or, without one, whose class or model type
/// (config.json of a root or of the files that it was split into) this is.
const Adapter* by_pipeline(const formats::Checkpoint& checkpoint, const Adapters& adapters) {
  const std::string index_class = text_at(checkpoint.model_index, "_class_name");
  for (const Adapter& adapter : adapters.families) {
    if (!index_class.empty() && contains(adapter.pipelines, index_class)) return &adapter;
    if (!checkpoint.model_index.is_null()) continue;
    for (const formats::Component& component : checkpoint.components) {
      const std::string model_type = text_at(component.config, "model_type");
      if (contains(adapter.pipelines, component.class_name) ||
          (!model_type.empty() && contains(adapter.model_types, model_type))) {
        return &adapter;
      }
    }
  }
  return nullptr;
}

bool class_matches(const AdapterComponent& knowledge, const formats::Component& component) {
  return !component.class_name.empty() && contains(knowledge.classes, component.class_name);
}

/// The adapter of which some component's class stands in the checkpoint.
const Adapter* by_class(const formats::Checkpoint& checkpoint, const Adapters& adapters) {
  for (const Adapter& adapter : adapters.families) {
    for (const AdapterComponent& knowledge : adapter.components) {
      for (const formats::Component& component : checkpoint.components) {
        if (class_matches(knowledge, component)) return &adapter;
      }
    }
  }
  return nullptr;
}

/// Whether the modules of `component` are what `knowledge` needs and lack what it lacks.
bool tensors_match(const AdapterComponent& knowledge, const std::vector<Module>& modules) {
  for (size_t i = 0; i < knowledge.needs.size(); ++i) {
    PathTable wanted;
    const auto& needs = knowledge.needs[i];
    const auto& lacks = knowledge.lacks[i];
    for (size_t n = 0; n < needs.size(); ++n) wanted.add(needs[n], static_cast<uint32_t>(n));
    for (size_t n = 0; n < lacks.size(); ++n) {
      wanted.add(lacks[n], static_cast<uint32_t>(needs.size() + n));
    }
    std::unordered_set<uint32_t> seen;
    for (const Module& module : modules) {
      if (auto hit = wanted.find(module.name)) seen.insert(hit->value);
    }
    bool all = true;
    for (uint32_t n = 0; n < needs.size() + lacks.size(); ++n) {
      all = all && (seen.count(n) > 0) == (n < needs.size());
    }
    if (all) return true;
  }
  return false;
}

struct TensorMatch {
  const Adapter* adapter = nullptr;
  const AdapterComponent* component = nullptr;
};

TensorMatch by_tensors(const formats::Component& component, const Adapters& adapters) {
  for (const Adapter& adapter : adapters.families) {
    std::vector<Module> modules;
    for (const AdapterComponent& knowledge : adapter.components) {
      if (knowledge.needs.empty()) continue;
      if (modules.empty()) modules = split_modules(component, nullptr, adapter.strip);
      if (tensors_match(knowledge, modules)) return {&adapter, &knowledge};
    }
  }
  return {};
}

const Adapter* generic_of(const Adapters& adapters) {
  for (const Adapter& adapter : adapters.families) {
    if (adapter.family == "generic" && !adapter.components.empty()) return &adapter;
  }
  return nullptr;
}

const AdapterComponent* by_folder(const Adapter& adapter, const std::string& folder) {
  for (const AdapterComponent& knowledge : adapter.components) {
    if (contains(knowledge.folders, folder)) return &knowledge;
  }
  return nullptr;
}

/// The component that a tensor of a flat root belongs to, by prefix, then by file, then the rest.
const AdapterComponent* share_of(const Adapter& adapter, std::string_view tensor,
                                 std::string_view file) {
  const AdapterComponent* rest = nullptr;
  for (const AdapterComponent& knowledge : adapter.components) {
    for (const std::string& prefix : knowledge.prefixes) {
      if (starts_with(tensor, prefix)) return &knowledge;
    }
    if (contains(knowledge.files, file)) return &knowledge;
    if (knowledge.rest) rest = &knowledge;
  }
  return rest;
}

bool is_flat_family(const Adapter& adapter) {
  for (const AdapterComponent& knowledge : adapter.components) {
    if (!knowledge.prefixes.empty() || !knowledge.files.empty() || knowledge.rest) return true;
  }
  return false;
}

class Assigner {
 public:
  Assigner(const formats::Checkpoint& checkpoint, const Adapter& adapter, const Adapter& generic,
           Recognition& out)
      : checkpoint_(checkpoint), adapter_(adapter), generic_(generic), out_(out) {}

  void assign(uint32_t index, const AdapterComponent* by_content) {
    const formats::Component& component = checkpoint_.components[index];
    if (component.tensors.empty()) return;
    const bool root = component.name.empty();
    const AdapterComponent* knowledge = root ? nullptr : by_folder(adapter_, component.name);
    for (const AdapterComponent& one : adapter_.components) {
      if (root && !knowledge && class_matches(one, component)) knowledge = &one;
    }
    if (!knowledge && root && is_flat_family(adapter_)) return split_root(index);
    if (!knowledge && root) knowledge = by_content;
    if (knowledge) {
      out_.components.push_back(Assignment{knowledge, knowledge->name, index, {}});
      return;
    }
    const AdapterComponent* any = &generic_.components.front();
    out_.components.push_back(Assignment{any, root ? "model" : component.name, index, {}});
    if (out_.known) {
      out_.notes.push_back("component " + quoted(component.name) + " is unknown to family " +
                           adapter_.family + ": kept unless a rule or map names it");
    }
  }

  void finish() {
    for (const AdapterComponent& knowledge : adapter_.components) {
      bool present = false;
      for (const Assignment& one : out_.components)
        present = present || one.knowledge == &knowledge;
      if (!present && out_.known) out_.absent.push_back(knowledge.name);
    }
  }

 private:
  void split_root(uint32_t index) {
    const formats::Component& component = checkpoint_.components[index];
    std::vector<std::vector<uint32_t>> shares(adapter_.components.size());
    std::vector<uint32_t> others;
    for (uint32_t t = 0; t < component.tensors.size(); ++t) {
      const formats::TensorEntry& tensor = component.tensors[t];
      std::string_view file = base_name(checkpoint_.files[tensor.file].path);
      const AdapterComponent* knowledge = share_of(adapter_, tensor.name, file);
      if (knowledge) {
        shares[static_cast<size_t>(knowledge - adapter_.components.data())].push_back(t);
      } else {
        others.push_back(t);
      }
    }
    for (size_t i = 0; i < shares.size(); ++i) {
      if (shares[i].empty()) continue;
      const AdapterComponent& knowledge = adapter_.components[i];
      out_.components.push_back(
          Assignment{&knowledge, knowledge.name, index, std::move(shares[i])});
    }
    if (others.empty()) return;
    out_.notes.push_back(std::to_string(others.size()) + " tensors, the first " +
                         quoted(component.tensors[others[0]].name) +
                         ", belong to no component of family " + adapter_.family +
                         ": kept as component \"other\"");
    out_.components.push_back(
        Assignment{&generic_.components.front(), "other", index, std::move(others)});
  }

  const formats::Checkpoint& checkpoint_;
  const Adapter& adapter_;
  const Adapter& generic_;
  Recognition& out_;
};

bool variant_matches(const Variant& variant, const formats::Checkpoint& checkpoint,
                     const Recognition& found) {
  auto present = [&](const std::string& name) {
    for (const Assignment& one : found.components) {
      if (one.name == name) return true;
    }
    return false;
  };
  if (!variant.pipelines.empty() &&
      !contains(variant.pipelines, text_at(checkpoint.model_index, "_class_name"))) {
    return false;
  }
  for (const std::string& name : variant.present) {
    if (!present(name)) return false;
  }
  for (const std::string& name : variant.absent) {
    if (present(name)) return false;
  }
  for (const auto& [key, value] : variant.config) {
    size_t dot = key.find('.');
    const formats::Component* component = checkpoint.component(key.substr(0, dot));
    const Node* real = component ? component->config.find(key.substr(dot + 1)) : nullptr;
    if (!real || !(*real == value)) return false;
  }
  return true;
}

/// What a GGUF file says it is, beside what adapters know (the tensors decide, not the word).
void note_architectures(const formats::Checkpoint& checkpoint, const Adapters& adapters,
                        std::vector<std::string>& notes) {
  std::vector<std::string> known;
  for (const Adapter& adapter : adapters.families) {
    for (const AdapterComponent& one : adapter.components) {
      const std::string& name = one.gguf_architecture;
      if (!name.empty() && !contains(known, name)) known.push_back(name);
    }
  }
  for (const formats::Component& component : checkpoint.components) {
    const std::string name = text_at(component.config, "general.architecture");
    if (!component.gguf || name.empty()) continue;
    notes.push_back("general.architecture is " + quoted(name) + "; adapters know tensors of " +
                    join(known));
  }
}

}  // namespace

Result<Recognition> recognise(const formats::Checkpoint& checkpoint, const Adapters& adapters) {
  Recognition out;
  const Adapter* generic = generic_of(adapters);
  if (!generic) {
    return Error{Code::internal,
                 "adapters incomplete",
                 "",
                 "found no adapter \"generic\" with a component, expected one",
                 "",
                 {}};
  }
  TensorMatch content;
  out.adapter = by_pipeline(checkpoint, adapters);
  if (!out.adapter) out.adapter = by_class(checkpoint, adapters);
  for (const formats::Component& component : checkpoint.components) {
    if (content.adapter || component.tensors.empty()) continue;
    if (!out.adapter || component.name.empty()) content = by_tensors(component, adapters);
  }
  if (!out.adapter) out.adapter = content.adapter;
  out.known = out.adapter != nullptr;
  if (!out.known) {
    out.adapter = generic;
    out.notes.push_back(
        "no adapter knows this model: layers are quantized only where a rule or a "
        "component map names them, or the checkpoint declares it");
    note_architectures(checkpoint, adapters, out.notes);
  }
  Assigner assigner(checkpoint, *out.adapter, *generic, out);
  for (uint32_t i = 0; i < checkpoint.components.size(); ++i) {
    assigner.assign(i, content.adapter == out.adapter ? content.component : nullptr);
  }
  assigner.finish();
  out.variant = out.adapter->family;
  out.support = &out.adapter->support;
  for (const Variant& variant : out.adapter->variants) {
    if (!variant_matches(variant, checkpoint, out)) continue;
    out.variant = variant.name;
    if (!variant.support.is_null()) out.support = &variant.support;
    break;
  }
  return out;
}

}  // namespace loadstone::graph
