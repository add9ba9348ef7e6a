#include <re2/re2.h>

#include <atomic>
#include <map>
#include <mutex>

#include "base/log.hpp"
#include "base/text.hpp"
#include "config/pattern.hpp"
#include "plugin/foreign.hpp"
#include "plugin/gemm.hpp"
#include "plugin/registry.hpp"
#include "plugin/sinks.hpp"

namespace loadstone::plugin {

namespace {

std::atomic<ThreadPool*> host_pool{nullptr};
std::atomic<const CancelToken*> host_cancel{nullptr};
std::atomic<int32_t (*)(const ls_gemm*)> host_gemm{nullptr};

void log_from_plugin(uint32_t level, const char* text) {
  const log::Level to = level >= LS_LOG_WARNING ? log::Level::warning
                        : level == LS_LOG_INFO  ? log::Level::info
                                                : log::Level::debug;
  log::write(to, escaped(foreign_text(text), 4000));
}

void parallel_for(uint64_t count, void (*body)(void*, uint64_t), void* context) {
  ThreadPool* pool = host_pool.load();
  if (pool == nullptr || count <= 1) {
    for (uint64_t i = 0; i < count; ++i) body(context, i);
    return;
  }
  // A body may call fail on one of our threads: the text belongs to the call that lent them.
  std::mutex mutex;
  std::string text;
  pool->for_each(count, [&](size_t i) {
    body(context, i);
    std::string failed = take_failure();
    if (failed.empty()) return;
    const std::lock_guard lock(mutex);
    if (text.empty()) text = std::move(failed);
  });
  if (!text.empty()) host_table().fail(LS_INTERNAL, text.c_str());
}

int32_t is_cancelled() {
  const CancelToken* token = host_cancel.load();
  return token != nullptr && token->cancelled() ? 1 : 0;
}

int32_t gemm(const ls_gemm* from) {
  if (auto* other = host_gemm.load()) return other(from);
  const auto call = read_foreign(from);
  if (!call) return host_table().fail(LS_INVALID_ARGUMENT, "gemm: found no struct");
  const Status status = product(*call, host_pool.load());
  if (status.ok()) return LS_OK;
  return host_table().fail(LS_INVALID_ARGUMENT, status.error().text().c_str());
}

/// Compiled patterns of one thread, so that asking again for each layer costs a lookup.
const RE2* compiled(uint32_t style, const std::string& pattern) {
  thread_local std::map<std::pair<uint32_t, std::string>, std::unique_ptr<RE2>> cache;
  constexpr size_t kMaxCached = 4096;
  if (cache.size() >= kMaxCached) cache.clear();
  auto& slot = cache[{style, pattern}];
  if (slot) return slot.get();
  RE2::Options options;
  options.set_max_mem(1 << 20);
  options.set_log_errors(false);
  std::string source = pattern;
  if (style == LS_STYLE_GLOB) {
    auto regex = config::glob_to_regex(pattern);
    if (!regex.ok()) {
      host_table().fail(LS_INVALID_CONFIG, regex.error().text().c_str());
      return nullptr;
    }
    source = "(?s:" + *regex + ")";
  }
  auto made = std::make_unique<RE2>(source, options);
  if (!made->ok()) {
    const std::string text =
        "pattern rejected: " + loadstone::quoted(pattern) + ": found " + escaped(made->error());
    host_table().fail(LS_INVALID_CONFIG, text.c_str());
    return nullptr;
  }
  slot = std::move(made);
  return slot.get();
}

bool has_segments(std::string_view path, std::string_view run, bool at_start, bool at_end) {
  for (size_t at = path.find(run); at != std::string_view::npos; at = path.find(run, at + 1)) {
    const size_t end = at + run.size();
    const bool starts = at == 0 || (!at_start && path[at - 1] == '.');
    const bool ends = end == path.size() || (!at_end && path[end] == '.');
    if (starts && ends) return true;
  }
  return false;
}

int32_t match(uint32_t style, const char* pattern, const char* text) {
  constexpr size_t kMost = 1u << 16;
  const std::string wanted(foreign_text(pattern, kMost));
  const std::string_view path = foreign_text(text, kMost);
  if (wanted.size() == kMost || path.size() == kMost) {
    return -host_table().fail(LS_INVALID_ARGUMENT, "match: found a text of 64 KiB or more");
  }
  if (wanted.empty()) return -host_table().fail(LS_INVALID_CONFIG, "pattern rejected: found \"\"");
  switch (style) {
    case LS_STYLE_EXACT:
      return path == wanted ? 1 : 0;
    case LS_STYLE_SUFFIX:
      return has_segments(path, wanted, false, true) ? 1 : 0;
    case LS_STYLE_PREFIX:
      return has_segments(path, wanted, true, false) ? 1 : 0;
    case LS_STYLE_SEGMENTS:
      return has_segments(path, wanted, false, false) ? 1 : 0;
    case LS_STYLE_GLOB:
    case LS_STYLE_REGEX:
      break;
    default:
      return -host_table().fail(LS_INVALID_ARGUMENT, "match: found unknown style");
  }
  const RE2* regex = compiled(style, wanted);
  if (regex == nullptr) return -LS_INVALID_CONFIG;
  const re2::StringPiece piece(path.data(), path.size());
  const bool hit =
      style == LS_STYLE_GLOB ? RE2::FullMatch(piece, *regex) : RE2::PartialMatch(piece, *regex);
  return hit ? 1 : 0;
}

ls_host make_table() {
  ls_host table{};
  table.struct_size = sizeof table;
  table.abi_major = LS_ABI_MAJOR;
  table.abi_minor = LS_ABI_MINOR;
  table.log = log_from_plugin;
  table.parallel_for = parallel_for;
  table.cancelled = is_cancelled;
  table.gemm = gemm;
  table.match = match;
  add_sink_entries(table);
  return table;
}

}  // namespace

const ls_host& host_table() {
  static const ls_host table = make_table();
  return table;
}

void set_host_threads(ThreadPool* pool) { host_pool.store(pool); }
void set_host_cancel(const CancelToken* token) { host_cancel.store(token); }
void set_host_gemm(int32_t (*gemm)(const ls_gemm*)) { host_gemm.store(gemm); }

}  // namespace loadstone::plugin
