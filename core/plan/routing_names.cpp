#include "plan/routing_names.hpp"

#include <algorithm>

#include "base/text.hpp"

namespace loadstone::plan {
namespace {

/// `path` under every beginning that the component accepts.
void add_spellings(const std::string& path, const graph::GraphComponent& component,
                   std::vector<std::string>& out) {
  if (std::find(out.begin(), out.end(), path) != out.end()) return;
  out.push_back(path);
  for (const auto& [prefix, alias] : component.prefix_aliases) {
    if (path.starts_with(prefix)) out.push_back(alias + path.substr(prefix.size()));
  }
}

/// A name with its numbers replaced, so that a thousand equal layers count once.
std::string shape_of(std::string_view name) {
  std::string out;
  for (char c : name) {
    if (c >= '0' && c <= '9') {
      if (out.empty() || out.back() != '#') out += '#';
    } else {
      out += c;
    }
  }
  return out;
}

/// Of two ascending lists, ascending, each number once.
std::vector<uint32_t> united(const std::vector<uint32_t>& a, const std::vector<uint32_t>& b) {
  std::vector<uint32_t> out;
  std::set_union(a.begin(), a.end(), b.begin(), b.end(), std::back_inserter(out));
  return out;
}

}  // namespace

std::string_view less_strip(std::string_view pattern, const graph::GraphComponent& component) {
  for (const std::string& prefix : component.strip) {
    if (pattern.starts_with(prefix)) return pattern.substr(prefix.size());
  }
  return pattern;
}

LayerNames names_of(const graph::Layer& layer, const graph::GraphComponent& component) {
  LayerNames out;
  out.component = component.name;
  add_spellings(layer.path, component, out.own);
  for (const std::string& alias : layer.aliases) add_spellings(alias, component, out.own);
  if (layer.parts.size() == 1) {
    add_spellings(layer.parts[0].name, component, out.own);
    add_spellings(layer.parts[0].path, component, out.own);
    for (const std::string& held : layer.holds) {
      if (layer.holds.size() < 2) break;
      out.parts.emplace_back();
      add_spellings(held, component, out.parts.back());
    }
    return out;
  }
  for (const graph::Part& part : layer.parts) {
    out.parts.emplace_back();
    add_spellings(part.name, component, out.parts.back());
    add_spellings(part.path, component, out.parts.back());
  }
  return out;
}

NameHits match_names(const config::PatternSet& patterns, const LayerNames& names) {
  std::vector<uint32_t> ids;
  auto unite = [&](const std::vector<std::string>& spellings) {
    std::vector<uint32_t> into;
    for (const std::string& name : spellings) {
      patterns.match(names.component, name, &ids);
      into = united(into, ids);
    }
    return into;
  };
  NameHits out;
  out.own = unite(names.own);
  for (const auto& part : names.parts) out.parts.push_back(unite(part));
  return out;
}

std::vector<uint32_t> NameHits::whole() const {
  if (parts.empty()) return own;
  std::vector<uint32_t> all = parts.front();
  for (size_t i = 1; i < parts.size(); ++i) {
    std::vector<uint32_t> both;
    std::set_intersection(all.begin(), all.end(), parts[i].begin(), parts[i].end(),
                          std::back_inserter(both));
    all = std::move(both);
  }
  return united(own, all);
}

std::vector<uint32_t> NameHits::partial() const {
  std::vector<uint32_t> any, out;
  for (const auto& part : parts) any = united(any, part);
  const std::vector<uint32_t> full = whole();
  std::set_difference(any.begin(), any.end(), full.begin(), full.end(), std::back_inserter(out));
  return out;
}

std::string missing_parts(const LayerNames& names, const std::vector<bool>& named) {
  std::vector<std::string> missing;
  for (size_t i = 0; i < named.size(); ++i) {
    if (!named[i]) missing.push_back(quoted(names.parts[i].front()));
  }
  return join(missing, " and ");
}

void NearestName::add(const LayerNames& names) {
  auto add_one = [&](const std::string& name) {
    if (!known_.insert(shape_of(name)).second) return;
    names_.push_back(name);
    for (size_t begin = 0; begin < name.size();) {
      size_t end = std::min(name.find('.', begin), name.size());
      std::string segment = name.substr(begin, end - begin);
      if (known_.insert("." + segment).second) segments_.push_back(std::move(segment));
      begin = end + 1;
    }
  };
  for (const std::string& name : names.own) add_one(name);
  for (const auto& part : names.parts) {
    for (const std::string& name : part) add_one(name);
  }
}

std::string NearestName::to(std::string_view entry) const {
  std::string hint;
  if (entry.find('.') != std::string_view::npos) {
    // Names differ from the entry's in their numbers too: compare shapes, answer with its numbers.
    std::vector<std::string> shapes;
    for (const std::string& name : names_) shapes.push_back(shape_of(name));
    const auto near = std::find(shapes.begin(), shapes.end(), nearest(shape_of(entry), shapes));
    if (near != shapes.end()) hint = names_[static_cast<size_t>(near - shapes.begin())];
  } else {
    hint = nearest(entry, segments_);
  }
  return hint.empty() ? "" : quoted(hint);
}

}  // namespace loadstone::plan
