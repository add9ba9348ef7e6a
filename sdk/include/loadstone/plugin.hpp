// The C++ wrapper of the plugin interface: a class with static functions becomes a method.
//
// clang-format off
//   struct MyMethod {
//     static constexpr const char* kName = "mine";
//     static constexpr const char* kSummary = "one line";
//     static constexpr ls_field kFields[] = {sdk::integer_field("bits", "…", "8", 2, 8)}; optional
//     static constexpr ls_claim kClaims[] = {sdk::claim("quantization_config", "mine")};  optional
//     static constexpr const char* kAliases[] = {"my_method"};    optional
//     static constexpr bool kCuda = true;                         optional: apply runs on CUDA too
//     static constexpr bool kSaves = false;                       optional: no serialized form
//     static constexpr bool kDecodes = true;                      optional: plan() answers layers
//                                                                 that wants_decode() itself
//
//     struct Config {…};                                          default: empty
//     static Config configure(const sdk::Values&);                default: Config{}
//     static void read_declaration(const sdk::Node&, uint64_t claim, sdk::Declaration&);
//                                                                 default: keys are fields
//     static const char* ignored(const Config&, const sdk::Layer&);
//                                                                 default: field ignored_layers
//     static void plan(const Config&, const sdk::Layer&, const sdk::Target&, sdk::Plan&);
//
//     Producing, one of
//       static void feed(const Config&, const sdk::Layer&, const sdk::Begin&, const sdk::Piece&);
//       static void produce(const Config&, const sdk::Layer&, const sdk::Begin&);  resident only
//       struct Session { const Config& config; const sdk::Layer& layer; const sdk::Begin& begin;
//                        void feed(const sdk::Piece&); void end(const void* stat, uint32_t); };
//     static void merge(const Config&, const sdk::Layer&, uint32_t groups, void* into,
//                       const void* from);                        with statistics
//     static void dequantize(const Config&, const sdk::Layer&, const sdk::Rows&);
//     static void repack(const Config&, const sdk::Layer&, uint64_t wish, bool inverse,
//                        const ls_buffer& canonical, const ls_buffer& packed, void* stream);
//
//     struct Bound {                                    default: dequantize and the host's product
//       Bound(const Config&, const sdk::Binding&);
//       uint32_t variant(const ls_step&) const;                   default: 0
//       void sizes(uint32_t variant, uint64_t m, ls_sizes&) const;
//       void prepare(const ls_apply&) const;                      optional
//       void apply(const ls_apply&) const;
//     };
//     static void save_layer(const Config&, const sdk::Layer&, uint64_t note, ls_sink*);
//     static void save_read(const Config&, const sdk::Layer&, uint64_t note, const sdk::Buffers&,
//                           uint64_t index, uint64_t offset, uint64_t nbytes, void* out);
//                                                                 default: as stored, by parts
//     static std::string declaration(const Config&);              default: name and fields as JSON
//   };
//   LOADSTONE_PLUGIN("my_plugin", "1.0.0", "MIT", MyMethod)
// clang-format on
//
// Inside, throw sdk::Failure (sdk::fail); every exception becomes a status and a text at the
// boundary, bad_alloc LS_RESOURCE. Incoming structs are copied to this header's size, zero-filled.
#pragma once

#include <loadstone/plugin.h>

#include <loadstone/plugin/apply.hpp>
#include <loadstone/plugin/config.hpp>
#include <loadstone/plugin/decode.hpp>
#include <loadstone/plugin/floats.hpp>
#include <loadstone/plugin/handles.hpp>
#include <loadstone/plugin/host.hpp>
#include <loadstone/plugin/ignored.hpp>
#include <loadstone/plugin/layer.hpp>
#include <loadstone/plugin/plan.hpp>
#include <loadstone/plugin/produce.hpp>
#include <loadstone/plugin/save.hpp>
#include <loadstone/plugin/table.hpp>

namespace loadstone::sdk::detail {

/// The query of a plugin that offers `Methods`. Null, with fail's text, for a host of another major
/// version or without what planning needs; what else a host lacks is found missing when used.
template <typename... Methods>
const ls_plugin* describe(const ls_host* from, const char* name, const char* version,
                          const char* licence) {
  if (from == nullptr) return nullptr;
  const int32_t status = guarded([&] {
    host_copy = copy_in(from);
    if (host_copy.abi_major != LS_ABI_MAJOR) {
      fail(LS_UNSUPPORTED, "host rejected: found ABI " + std::to_string(host_copy.abi_major) + "." +
                               std::to_string(host_copy.abi_minor) + ", expected " +
                               std::to_string(LS_ABI_MAJOR) + ".x");
    }
    if (host_copy.fail == nullptr || host_copy.plan_source == nullptr ||
        host_copy.plan_stored == nullptr || host_copy.plan_identity == nullptr ||
        host_copy.plan_repack == nullptr || host_copy.plan_unused == nullptr ||
        host_copy.plan_work == nullptr) {
      fail(LS_UNSUPPORTED, "host rejected: its table ends before plan_work");
    }
  });
  if (status != LS_OK) return nullptr;
  static const ls_method* const methods[] = {Table<Methods>::get()...};
  static ls_plugin plugin = make<ls_plugin>();
  plugin.abi_major = LS_ABI_MAJOR;
  plugin.abi_minor = LS_ABI_MINOR;
  plugin.name = name;
  plugin.version = version;
  plugin.licence = licence;
  plugin.methods = methods;
  plugin.method_count = sizeof...(Methods);
  return &plugin;
}

}  // namespace loadstone::sdk::detail

/// Defines the library's one exported symbol.
#define LOADSTONE_PLUGIN(name, version, licence, ...)                                     \
  extern "C" LS_EXPORT const ls_plugin* loadstone_plugin_query(const ls_host* host) {     \
    return ::loadstone::sdk::detail::describe<__VA_ARGS__>(host, name, version, licence); \
  }
