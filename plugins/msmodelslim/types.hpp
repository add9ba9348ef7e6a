// The types that msModelSlim writes beside a tensor's name, and those that aren't read here.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace loadstone::msmodelslim {

enum class Type {
  w8a8,
  w8a8_dynamic,
  w8a16,
  w4a8_dynamic,
  w4a4_dynamic,
  fp8_dynamic,
  mxfp8,
  mxfp4,
  mxfp4_dualscale,
};

/// The type of that name, any case; nothing for FLOAT and others.
std::optional<Type> find_type(std::string_view name);
/// As the tool spells it.
const char* name_of(Type type);
/// All names, for errors: "W8A8, … or WFP8AFP8_DYNAMIC".
std::string type_names();

bool is_float(std::string_view name);
/// Why a type that the tool writes isn't read, or null.
const char* why_refused(std::string_view name);

}  // namespace loadstone::msmodelslim
