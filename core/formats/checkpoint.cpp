#include "formats/checkpoint.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <climits>
#include <map>

#include "base/text.hpp"

namespace loadstone::formats {
namespace {

Node integer(uint64_t value) { return Node::of_integer(static_cast<int64_t>(value)); }

Node texts(const std::vector<std::string>& values) {
  Node list = Node::of_list({});
  for (const std::string& value : values) list.items().push_back(Node::of_text(value));
  return list;
}

Node tensor_node(const TensorEntry& tensor) {
  Node shape = Node::of_list({});
  for (const uint64_t dim : tensor.shape) shape.items().push_back(integer(dim));
  return Node::of_map({{"name", Node::of_text(tensor.name)},
                       {"dtype", Node::of_text(std::string(name_of(tensor.dtype)))},
                       {"shape", std::move(shape)},
                       {"file", integer(tensor.file)},
                       {"offset", integer(tensor.offset)},
                       {"nbytes", integer(tensor.nbytes)}});
}

// Tensors and bytes a dtype, by name.
Node dtype_nodes(const std::vector<TensorEntry>& tensors) {
  struct Total {
    uint64_t tensors = 0, nbytes = 0;
  };
  std::map<std::string_view, Total> totals;
  for (const TensorEntry& tensor : tensors) {
    Total& total = totals[name_of(tensor.dtype)];
    ++total.tensors;
    total.nbytes += tensor.nbytes;
  }
  Node map = Node::of_map({});
  for (const auto& [name, total] : totals) {
    map.entries().emplace_back(
        std::string(name),
        Node::of_map({{"tensors", integer(total.tensors)}, {"nbytes", integer(total.nbytes)}}));
  }
  return map;
}

Node component_node(const Component& component, bool with_tensors) {
  uint64_t nbytes = 0;
  std::vector<uint32_t> files;
  for (const TensorEntry& tensor : component.tensors) {
    nbytes += tensor.nbytes;
    if (files.empty() || files.back() != tensor.file) files.push_back(tensor.file);
  }
  Node file_list = Node::of_list({});
  for (const uint32_t file : files) file_list.items().push_back(integer(file));
  Node declarations = Node::of_list({});
  for (const Declaration& declaration : component.declarations) {
    declarations.items().push_back(Node::of_map({{"origin", Node::of_text(declaration.origin)},
                                                 {"path", Node::of_text(declaration.path)},
                                                 {"scope", Node::of_text(declaration.scope)},
                                                 {"value", declaration.value}}));
  }
  Node node = Node::of_map({{"name", Node::of_text(component.name)},
                            {"folder", Node::of_text(component.folder)},
                            {"class", Node::of_text(component.class_name)},
                            {"library", Node::of_text(component.library)},
                            {"tensors", integer(component.tensors.size())},
                            {"nbytes", integer(nbytes)},
                            {"dtypes", dtype_nodes(component.tensors)},
                            {"files", std::move(file_list)},
                            {"declarations", std::move(declarations)}});
  if (!component.metadata.is_null()) {
    node.entries().emplace_back("metadata", component.metadata);
  }
  if (with_tensors) {
    Node list = Node::of_list({});
    for (const TensorEntry& tensor : component.tensors) {
      list.items().push_back(tensor_node(tensor));
    }
    node.entries().emplace_back("tensor_list", std::move(list));
  }
  return node;
}

}  // namespace

std::string_view to_string(Layout layout) {
  switch (layout) {
    case Layout::diffusers:
      return "diffusers";
    case Layout::transformers:
      return "transformers";
    case Layout::single_file:
      return "single_file";
    case Layout::cascade:
      return "cascade";
  }
  return "single_file";
}

const TensorEntry* Component::find(std::string_view tensor_name) const {
  for (const TensorEntry& tensor : tensors) {
    if (tensor.name == tensor_name) return &tensor;
  }
  return nullptr;
}

const Component* Checkpoint::component(std::string_view name) const {
  for (const Component& candidate : components) {
    if (candidate.name == name) return &candidate;
  }
  return nullptr;
}

uint64_t Checkpoint::tensor_nbytes() const {
  uint64_t nbytes = 0;
  for (const Component& component : components) {
    for (const TensorEntry& tensor : component.tensors) nbytes += tensor.nbytes;
  }
  return nbytes;
}

Node Checkpoint::to_node(bool tensors) const {
  Node component_list = Node::of_list({});
  for (const Component& component : components) {
    component_list.items().push_back(component_node(component, tensors));
  }
  Node file_list = Node::of_list({});
  for (const FileEntry& file : files) {
    file_list.items().push_back(Node::of_map(
        {{"path", Node::of_text(file.path)}, {"nbytes", integer(file.identity.nbytes)}}));
  }
  return Node::of_map({{"path", Node::of_text(path)},
                       {"layout", Node::of_text(std::string(to_string(layout)))},
                       {"tensor_nbytes", integer(tensor_nbytes())},
                       {"components", std::move(component_list)},
                       {"files", std::move(file_list)},
                       {"notes", texts(notes)}});
}

Status check_unchanged(const FileEntry& entry) {
  LS_TRY(const FileIdentity now, entry.file->identity());
  if (now == entry.identity) return {};
  std::string found = "a later modification time";
  if (!now.named) {
    found = "it replaced or removed";
  } else if (now.nbytes != entry.identity.nbytes) {
    found = fmt::format("{} bytes where there were {}", now.nbytes, entry.identity.nbytes);
  } else if (now.inode != entry.identity.inode || now.device != entry.identity.device) {
    found = "another file";
  }
  return Error{Code::io, "file changed while reading", escaped(entry.path, PATH_MAX),
               fmt::format("found {}, expected the file as it was opened", found)};
}

Status check_unchanged(const Checkpoint& checkpoint) {
  for (const FileEntry& entry : checkpoint.files) LS_CHECK(check_unchanged(entry));
  return {};
}

}  // namespace loadstone::formats
