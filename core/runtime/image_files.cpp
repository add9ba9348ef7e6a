#include "runtime/image_files.hpp"

#include "formats/output_file.hpp"
#include "runtime/compare/png.hpp"

namespace loadstone::runtime {

std::vector<std::string> picture_paths(const std::string& output, size_t count) {
  if (count == 1) return {output};
  const size_t slash = output.rfind('/');
  size_t dot = output.rfind('.');
  if (dot == std::string::npos || (slash != std::string::npos && dot < slash)) dot = output.size();
  std::vector<std::string> paths;
  for (size_t i = 0; i < count; ++i) {
    paths.push_back(output.substr(0, dot) + "_" + std::to_string(i) + output.substr(dot));
  }
  return paths;
}

Status write_pictures(const std::vector<std::string>& paths,
                      const std::vector<compare::Frame>& pictures) {
  for (size_t i = 0; i < paths.size(); ++i) {
    LS_TRY(const std::string png, compare::encode_png(pictures[i]));
    LS_CHECK(formats::write_file(paths[i], std::as_bytes(std::span(png))));
  }
  return {};
}

}  // namespace loadstone::runtime
