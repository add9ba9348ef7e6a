// The parser behind read_safetensors_header: one walk with simdjson on demand, made for headers of
// tens of thousands of tensors. Inside, functions return false with `error_` set: a Result of this
// size per field would cost as much as the parse.
#pragma once

#define SIMDJSON_EXCEPTIONS 0  // an unchecked result does not compile
#include <simdjson.h>

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/name_table.hpp"
#include "formats/safetensors.hpp"

namespace loadstone::formats {

class SafetensorsParser {
 public:
  SafetensorsParser(std::span<const char> padded, size_t header_nbytes, uint64_t file_nbytes,
                    const std::string& path, const OpenOptions& options);

  Result<SafetensorsHeader> parse();

 private:
  using Field = simdjson::ondemand::field;
  using Value = simdjson::ondemand::value;
  using Item = simdjson::simdjson_result<Value>;

  bool read_entries(simdjson::ondemand::object& root);
  bool read_name(Field& field, std::string_view& name);
  bool read_metadata(Value& value);
  bool read_tensor(std::string_view name, Value& value);
  bool read_field(Field& field, TensorEntry& tensor, unsigned& seen);
  bool read_other_field(Field& field, TensorEntry& tensor, unsigned& seen);
  bool skip_field(std::string_view key, Value& value, const TensorEntry& tensor);
  bool take_raw(Value& value, std::string_view& text);
  bool read_dtype(Value& value, TensorEntry& tensor);
  bool read_shape(Value& value, TensorEntry& tensor);
  bool read_offsets(Value& value, TensorEntry& tensor);
  bool read_whole_number(Item item, std::string_view what, const TensorEntry& tensor,
                         uint64_t& number);
  bool check_size(const TensorEntry& tensor);

  bool fail(Error error);
  bool fail(simdjson::error_code error);
  bool fail_at(std::string detail);  // at the last key that was read
  bool fail_range(const std::string& name, std::string detail);
  bool fail_duplicate(std::string_view name);
  Status check_names() const;

  const std::string_view text_;
  const std::span<const char> padded_;
  const uint64_t file_nbytes_;
  const uint64_t data_begin_;
  const std::string& path_;
  const OpenOptions& options_;
  const char* at_ = nullptr;
  // The dtype of the tensor before: nearly always that of the next.
  std::string last_dtype_;
  DType last_dtype_value_ = DType::invalid;
  DTypeLayout layout_;
  NameHashes names_;
  SafetensorsHeader out_;
  std::optional<Error> error_;
};

}  // namespace loadstone::formats
