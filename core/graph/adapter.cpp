#include "graph/adapter.hpp"

#include <algorithm>

#include "base/file.hpp"
#include "base/text.hpp"
#include "config/problems.hpp"
#include "config/quant_config.hpp"

namespace loadstone::graph {
namespace {

using config::Problems;

constexpr uint64_t kMaxAdapterNbytes = 1u << 20;

size_t closing_brace(std::string_view text, size_t at) { return text.find('}', at); }

/// Typed access to the nodes of an adapter file; every misuse is a problem at its place.
class Reader {
 public:
  explicit Reader(Problems& problems) : problems_(problems) {}

  void wrong(const Node& node, const std::string& key, const std::string& expected) {
    problems_.add("adapter value rejected", node.mark(),
                  "found " + node.describe() + " for " + quoted(key) + ", expected " + expected);
  }
  std::string text(const Node& node, const std::string& key) {
    if (node.is_text()) return node.text();
    wrong(node, key, "a text");
    return "";
  }
  std::vector<std::string> texts(const Node& node, const std::string& key) {
    std::vector<std::string> out;
    if (!node.is_list()) {
      wrong(node, key, "a list of texts");
      return out;
    }
    for (const Node& item : node.items()) out.push_back(text(item, key));
    return out;
  }
  const std::vector<Node::Entry>& entries(const Node& node, const std::string& key) {
    static const std::vector<Node::Entry> kNone;
    if (node.is_map()) return node.entries();
    wrong(node, key, "a map");
    return kNone;
  }
  void unknown(const std::string& key, const Node& node) {
    problems_.add("unknown key of an adapter", node.key_mark(),
                  "found " + quoted(key) + ", expected a documented key");
  }
  void duplicate(const std::string& pattern, const Node& node) {
    problems_.add("module pattern given twice", node.key_mark(),
                  "found " + quoted(pattern) + ", expected each pattern once");
  }
  Problems& problems() { return problems_; }

 private:
  Problems& problems_;
};

/// `text` for one expansion: a brace group in it takes the alternative `at`.
std::string pick(const std::string& text, size_t at) {
  auto all = expand_braces(text);
  return all.size() > 1 && at < all.size() ? all[at].text : text;
}

void read_modules(Reader& in, const Node& map, PathTable* table, std::vector<ModuleRule>* rules) {
  for (const auto& [pattern, node] : in.entries(map, "modules")) {
    ModuleRule rule;
    for (const auto& [key, value] : in.entries(node, pattern)) {
      if (key == "role") {
        rule.role = in.text(value, key);
      } else if (key == "keep") {
        rule.keep = in.text(value, key);
      } else if (key == "kind") {
        rule.kind = in.text(value, key);
      } else if (key == "alias") {
        rule.alias = in.text(value, key);
      } else {
        in.unknown(key, value);
      }
    }
    for (const Expanded& one : expand_braces(pattern)) {
      ModuleRule copy = rule;
      copy.role = pick(rule.role, one.last);
      copy.alias = pick(rule.alias, one.last);
      if (!table->add(one.text, static_cast<uint32_t>(rules->size()))) in.duplicate(one.text, node);
      rules->push_back(std::move(copy));
    }
  }
}

std::string parent_of(const std::string& pattern) {
  size_t dot = pattern.rfind('.');
  return dot == std::string::npos ? "" : pattern.substr(0, dot);
}

void add_fusion_part(Reader& in, AdapterComponent& component, Fusion& fusion, std::string pattern,
                     const std::string& shard, const Node& node) {
  FusionPart part;
  part.fusion = static_cast<uint32_t>(component.fusions.size());
  part.order = static_cast<uint32_t>(fusion.parts.size());
  part.shard = shard;
  size_t expert = pattern.find("<e>");
  if (expert != std::string::npos) {
    part.group_at = static_cast<int32_t>(
        std::count(pattern.begin(), pattern.begin() + static_cast<std::ptrdiff_t>(expert), '*'));
    pattern.replace(expert, 3, "*");
  }
  if (!component.parts.add(pattern, static_cast<uint32_t>(component.fusion_parts.size()))) {
    in.duplicate(pattern, node);
  }
  fusion.parts.push_back(pattern);
  component.fusion_parts.push_back(std::move(part));
}

void read_fusions(Reader& in, const Node& map, AdapterComponent& component) {
  for (const auto& [into, node] : in.entries(map, "fuse")) {
    std::string base;
    bool based = false;
    if (const Node* given = node.find("base")) {
      base = in.text(*given, "base");
      based = true;
    }
    for (const Expanded& one : expand_braces(into)) {
      Fusion fusion;
      fusion.into = one.text;
      for (const auto& [key, value] : in.entries(node, into)) {
        if (key == "role") {
          fusion.role = in.text(value, key);
        } else if (key == "parts") {
          std::string below = based ? pick(base, one.last) : parent_of(one.text);
          for (const auto& [shard, part] : in.entries(value, key)) {
            std::string pattern = in.text(part, shard);
            add_fusion_part(in, component, fusion, below.empty() ? pattern : below + "." + pattern,
                            shard, part);
          }
        } else if (key != "base") {
          in.unknown(key, value);
        }
      }
      if (!component.into.add(fusion.into, static_cast<uint32_t>(component.fusions.size()))) {
        in.duplicate(fusion.into, node);
      }
      component.fusions.push_back(std::move(fusion));
    }
  }
}

void read_renames(Reader& in, const Node& map, AdapterComponent& component) {
  for (const auto& [pattern, node] : in.entries(map, "original")) {
    Rename rename;
    if (node.is_text()) {
      rename.to = node.text();
    } else {
      for (const auto& [key, value] : in.entries(node, pattern)) {
        if (key == "to") {
          rename.to = in.text(value, key);
        } else if (key == "holds") {
          rename.holds = in.texts(value, key);
        } else if (key == "transform") {
          rename.transform = in.text(value, key);
        } else {
          in.unknown(key, value);
        }
      }
    }
    for (const Expanded& one : expand_braces(pattern)) {
      Rename copy = rename;
      copy.from = one.text;
      copy.to = pick(rename.to, one.last);
      for (std::string& held : copy.holds) held = pick(held, one.last);
      if (!component.original.add(one.text, static_cast<uint32_t>(component.renames.size()))) {
        in.duplicate(one.text, node);
      }
      component.renames.push_back(std::move(copy));
    }
  }
}

Reach read_reach(Reader& in, const Node& node) {
  const std::string word = in.text(node, "reach");
  if (word == "flat") return Reach::flat;
  if (word == "map") return Reach::map;
  if (word == "declared") return Reach::declared;
  if (word == "stage") return Reach::stage;
  in.wrong(node, "reach", "flat, map, declared or stage");
  return Reach::map;
}

void read_scopes(Reader& in, const Node& map, AdapterComponent& component) {
  for (const auto& [name, node] : in.entries(map, "scopes")) {
    Scope scope;
    scope.name = name;
    std::string keep;
    for (const auto& [key, value] : in.entries(node, name)) {
      if (key == "prefix") {
        scope.prefix = in.text(value, key);
      } else if (key == "keep") {
        keep = in.text(value, key);
      } else {
        in.unknown(key, value);
      }
    }
    component.scopes.push_back(std::move(scope));
    component.scope_keep.push_back(std::move(keep));
  }
}

void read_recognition(Reader& in, const Node& list, AdapterComponent& component) {
  if (!list.is_list()) return in.wrong(list, "tensors", "a list of {needs, lacks}");
  for (const Node& item : list.items()) {
    std::vector<std::string> needs, lacks;
    for (const auto& [key, value] : in.entries(item, "tensors")) {
      if (key == "needs") {
        needs = in.texts(value, key);
      } else if (key == "lacks") {
        lacks = in.texts(value, key);
      } else {
        in.unknown(key, value);
      }
    }
    component.needs.push_back(std::move(needs));
    component.lacks.push_back(std::move(lacks));
  }
}

AdapterComponent read_component(Reader& in, const std::string& name, const Node& map,
                                const std::vector<AdapterComponent>& before) {
  AdapterComponent out;
  if (const Node* like = map.find("like")) {
    for (const AdapterComponent& one : before) {
      if (like->is_text() && one.name == like->text()) out = one;
    }
    if (out.name.empty()) in.wrong(*like, "like", "a component listed before");
  }
  out.name = name;
  out.folders = {name};
  for (const auto& [key, value] : in.entries(map, name)) {
    if (key == "kind") {
      out.kind = in.text(value, key);
    } else if (key == "keep") {
      out.keep = in.text(value, key);
    } else if (key == "reach") {
      out.reach = read_reach(in, value);
    } else if (key == "aliases") {
      out.aliases = in.texts(value, key);
    } else if (key == "folders") {
      out.folders = in.texts(value, key);
    } else if (key == "prefixes") {
      out.prefixes = in.texts(value, key);
    } else if (key == "files") {
      out.files = in.texts(value, key);
    } else if (key == "rest") {
      out.rest = value.is_bool() && value.boolean();
    } else if (key == "classes") {
      out.classes = in.texts(value, key);
    } else if (key == "tensors") {
      read_recognition(in, value, out);
    } else if (key == "scopes") {
      read_scopes(in, value, out);
    } else if (key == "prefix_aliases") {
      for (const auto& [from, to] : in.entries(value, key)) {
        out.prefix_aliases.emplace_back(from, in.text(to, from));
      }
    } else if (key == "modules") {
      read_modules(in, value, &out.modules, &out.rules);
    } else if (key == "fuse") {
      read_fusions(in, value, out);
    } else if (key == "original") {
      read_renames(in, value, out);
    } else if (key == "gguf") {
      out.gguf_architecture = in.text(value, key);
    } else if (key == "original_mark") {
      out.original_mark = in.text(value, key);
    } else if (key != "like") {
      in.unknown(key, value);
    }
  }
  return out;
}

Variant read_variant(Reader& in, const std::string& name, const Node& map) {
  Variant out;
  out.name = name;
  for (const auto& [key, value] : in.entries(map, name)) {
    if (key == "pipelines") {
      out.pipelines = in.texts(value, key);
    } else if (key == "present") {
      out.present = in.texts(value, key);
    } else if (key == "absent") {
      out.absent = in.texts(value, key);
    } else if (key == "config") {
      out.config = in.entries(value, key);
    } else if (key == "support") {
      out.support = value;
    } else {
      in.unknown(key, value);
    }
  }
  return out;
}

void read_edges(Reader& in, const Node& list, std::vector<Edge>& edges) {
  if (!list.is_list()) return in.wrong(list, "edges", "a list of [from, to, carries]");
  for (const Node& item : list.items()) {
    std::vector<std::string> words = in.texts(item, "edges");
    if (words.size() != 3) {
      in.wrong(item, "edges", "[from, to, carries]");
      continue;
    }
    edges.push_back(Edge{words[0], words[1], words[2]});
  }
}

Result<Adapter> read_adapter(const std::string& path, const std::string& family) {
  LS_TRY(std::string content, read_text(system_files(), path, kMaxAdapterNbytes));
  LS_TRY(Node root, config::parse_yaml(content, path));
  Problems problems;
  Reader in(problems);
  Adapter out;
  out.family = family;
  out.path = path;
  for (const auto& [key, value] : in.entries(root, family)) {
    if (key == "summary") {
      out.summary = in.text(value, key);
    } else if (key == "pipelines") {
      out.pipelines = in.texts(value, key);
    } else if (key == "model_types") {
      out.model_types = in.texts(value, key);
    } else if (key == "strip") {
      out.strip = in.texts(value, key);
    } else if (key == "components") {
      for (const auto& [name, node] : in.entries(value, key)) {
        out.components.push_back(read_component(in, name, node, out.components));
      }
    } else if (key == "edges") {
      read_edges(in, value, out.edges);
    } else if (key == "variants") {
      for (const auto& [name, node] : in.entries(value, key)) {
        out.variants.push_back(read_variant(in, name, node));
      }
    } else if (key == "support") {
      out.support = value;
    } else {
      in.unknown(key, value);
    }
  }
  if (!problems.empty()) return problems.take();
  return out;
}

Result<CommonModules> read_common(const std::string& path) {
  LS_TRY(std::string content, read_text(system_files(), path, kMaxAdapterNbytes));
  LS_TRY(Node root, config::parse_yaml(content, path));
  Problems problems;
  Reader in(problems);
  CommonModules out;
  if (const Node* modules = root.find("modules")) {
    read_modules(in, *modules, &out.table, &out.rules);
  }
  if (!problems.empty()) return problems.take();
  return out;
}

/// A broken adapter is a defect of the installation, not of the user's input.
Error as_internal(Error error) {
  error.code = Code::internal;
  for (Error& other : error.more) other.code = Code::internal;
  return error;
}

}  // namespace

std::vector<Expanded> expand_braces(std::string_view text) {
  size_t open = text.find('{');
  size_t close = open == std::string_view::npos ? open : closing_brace(text, open);
  if (close == std::string_view::npos) return {Expanded{std::string(text), 0}};
  std::vector<Expanded> out;
  const bool last_group = text.find('{', close) == std::string_view::npos;
  std::string_view body = text.substr(open + 1, close - open - 1);
  for (size_t at = 0;; ++at) {
    size_t comma = body.find(',');
    std::string head = std::string(text.substr(0, open)) + std::string(body.substr(0, comma));
    for (const Expanded& rest : expand_braces(text.substr(close + 1))) {
      out.push_back(Expanded{head + rest.text, last_group ? at : rest.last});
    }
    if (comma == std::string_view::npos) return out;
    body.remove_prefix(comma + 1);
  }
}

Result<Adapters> read_adapters(const std::string& dir) {
  Adapters out;
  LS_TRY(auto entries, system_files().list(dir));
  auto common = read_common(dir + "/common/modules.yaml");
  if (!common.ok()) return as_internal(std::move(common).error());
  out.common = std::move(*common);
  for (const DirectoryEntry& entry : entries) {
    const std::string path = dir + "/" + entry.name + "/adapter.yaml";
    if (!system_files().is_regular(path)) continue;
    auto adapter = read_adapter(path, entry.name);
    if (!adapter.ok()) return as_internal(std::move(adapter).error());
    out.families.push_back(std::move(*adapter));
  }
  return out;
}

}  // namespace loadstone::graph
