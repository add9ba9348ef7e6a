// Input: one byte of mode, then either a whole file, or u16 bytes of data and the header's text.
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <tuple>

#include "base/testing/memory_file.hpp"
#include "formats/safetensors.hpp"
#include "formats/safetensors_parser.hpp"
#include "formats/safetensors_scanner.hpp"

namespace {

using namespace loadstone;

void require(bool condition) {
  if (!condition) std::abort();
}

std::string file_of(const uint8_t* bytes, size_t nbytes) {
  const bool whole = (bytes[0] & 1) != 0;
  std::string text(reinterpret_cast<const char*>(bytes) + 1, nbytes - 1);
  if (whole || text.size() < 2) return text;
  uint16_t data_nbytes = 0;
  std::memcpy(&data_nbytes, text.data(), 2);
  text.erase(0, 2);
  const uint64_t length = text.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return file + text + std::string(data_nbytes, '\0');
}

// The scanner may only accept what the parser accepts, with the same tensors.
void compare_scanner(const std::string& file) {
  uint64_t length = 0;
  if (file.size() < 8) return;
  std::memcpy(&length, file.data(), 8);
  if (length > file.size() - 8) return;
  const std::string padded = file.substr(8, length) + std::string(formats::kHeaderPadding, '\0');
  formats::SafetensorsHeader quick;
  if (!formats::scan_safetensors_header({padded.data(), length}, quick)) return;
  const std::string path = "memory";
  const formats::OpenOptions options;
  const auto parsed =
      formats::SafetensorsParser({padded.data(), padded.size()}, length, file.size(), path, options)
          .parse();
  require(parsed.ok() && parsed->metadata == quick.metadata);
  require(parsed->tensors.size() == quick.tensors.size());
  for (size_t i = 0; i < quick.tensors.size(); ++i) {
    const formats::TensorEntry& a = quick.tensors[i];
    const formats::TensorEntry& b = parsed->tensors[i];
    require(std::tie(a.name, a.dtype, a.shape, a.offset, a.nbytes) ==
            std::tie(b.name, b.dtype, b.shape, b.offset, b.nbytes));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t nbytes) {
  if (nbytes < 1) return 0;
  const std::string file = file_of(bytes, nbytes);
  compare_scanner(file);
  formats::OpenOptions options;
  options.lenient = (bytes[0] & 2) != 0;
  const auto header =
      formats::read_safetensors_header(testing::MemoryFile(file), file.size(), options);
  if (!header.ok()) {
    require(!header.error().text().empty());
    return 0;
  }
  // What we accept, another parser accepts, and its tensors tile the file.
  uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  require(nlohmann::json::accept(file.substr(8, length)));
  uint64_t end = 8 + length;
  for (const formats::TensorEntry& tensor : header->tensors) {
    require(tensor.offset == end);
    end += tensor.nbytes;
  }
  require(end == file.size());
  return 0;
}
