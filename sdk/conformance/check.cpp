#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>

#include "base/file.hpp"
#include "base/text.hpp"
#include "conformance/points.hpp"

namespace loadstone::conformance {

namespace {

using Clock = std::chrono::steady_clock;
constexpr const char* kOpen = "open";
constexpr const char* kOpenRule = "the library opens and its descriptor equals the manifest";

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// One point of the list: a method and a spec; "open" has neither.
struct Task {
  std::string method;
  const PointSpec* spec = nullptr;
};

Point run_task(const plugin::Manifest& manifest, const Task& task, const Options& options,
               double seconds) {
  Point out;
  out.method = task.method;
  out.name = task.spec != nullptr ? task.spec->name : kOpen;
  out.rule = task.spec != nullptr ? task.spec->rule : kOpenRule;
  const auto start = Clock::now();
  const auto fail = [&](const Error& error) {
    out.outcome = Outcome::failed;
    out.detail = error.text();
    if (out.detail.starts_with(": ")) out.detail.erase(0, 2);
  };
  auto library = plugin::Library::open(manifest, true);
  if (!library.ok()) {
    fail(library.error());
  } else if (task.spec == nullptr) {
    out.cases = 1;
  } else {
    for (const ls_method* table : (*library)->methods()) {
      const plugin::Method method(table, *library);
      if (method.name() != task.method) continue;
      Context context(**library, method, options.seed, seconds);
      Status added;
      if (!options.checkpoint.empty()) {
        added = context.add_checkpoint(options.checkpoint, options.adapters);
      }
      auto verdict =
          added.ok() ? task.spec->run(context) : Result<std::string>(std::move(added).error());
      out.cases = context.cases;
      if (!verdict.ok()) {
        fail(verdict.error());
      } else if (!verdict->empty()) {
        out.outcome = Outcome::skipped;
        out.detail = *verdict;
      }
    }
  }
  out.seconds = seconds_since(start);
  return out;
}

Node node_of(const Point& point) {
  return Node::of_map({{"method", Node::of_text(point.method)},
                       {"name", Node::of_text(point.name)},
                       {"rule", Node::of_text(point.rule)},
                       {"outcome", Node::of_text(std::string(to_string(point.outcome)))},
                       {"detail", Node::of_text(point.detail)},
                       {"cases", Node::of_integer(static_cast<int64_t>(point.cases))},
                       {"seconds", Node::of_number(point.seconds)}});
}

/// What a child wrote, or why there is nothing.
Point point_of(const Task& task, const std::string& json, int wait_status, bool hung) {
  Point out;
  out.method = task.method;
  out.name = task.spec != nullptr ? task.spec->name : kOpen;
  out.rule = task.spec != nullptr ? task.spec->rule : kOpenRule;
  out.outcome = Outcome::failed;
  if (hung) {
    out.detail = "the plugin hangs";
    return out;
  }
  if (WIFSIGNALED(wait_status)) {
    out.detail = std::string("the plugin crashed: ") + strsignal(WTERMSIG(wait_status));
    return out;
  }
  const auto node = parse_json(json, "report");
  if (!node.ok() || !node->is_map()) {
    out.detail =
        "the plugin ended the process with exit code " + std::to_string(WEXITSTATUS(wait_status));
    return out;
  }
  const std::string& outcome = node->find("outcome")->text();
  out.outcome = outcome == "passed"   ? Outcome::passed
                : outcome == "failed" ? Outcome::failed
                                      : Outcome::skipped;
  out.detail = node->find("detail")->text();
  out.cases = static_cast<uint64_t>(node->find("cases")->integer());
  out.seconds = node->find("seconds")->number();
  return out;
}

[[noreturn]] void child_main(int to, const plugin::Manifest& manifest, const Task& task,
                             const Options& options, double seconds) {
  const std::string json = node_of(run_task(manifest, task, options, seconds)).to_json();
  for (size_t at = 0; at < json.size();) {
    const ssize_t wrote = write(to, json.data() + at, json.size() - at);
    if (wrote <= 0) break;
    at += static_cast<size_t>(wrote);
  }
  _exit(0);  // no destructors of the plugin, no buffers written twice
}

/// Reads until the child closes its end; false when the time is over first.
bool read_all(int from, double seconds, std::string& out) {
  const auto start = Clock::now();
  char chunk[4096];
  while (true) {
    const double left = seconds - seconds_since(start);
    pollfd ready{from, POLLIN, 0};
    if (left <= 0) return false;
    const int polled = poll(&ready, 1, static_cast<int>(left * 1000) + 1);
    if (polled < 0 && errno == EINTR) continue;
    if (polled <= 0) return false;
    const ssize_t got = read(from, chunk, sizeof chunk);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return true;
    out.append(chunk, static_cast<size_t>(got));
  }
}

Result<Point> run_apart(const plugin::Manifest& manifest, const Task& task, const Options& options,
                        double seconds) {
  int ends[2];
  if (pipe(ends) != 0) {
    return Error{Code::resource, "process not started", "", std::strerror(errno), ""};
  }
  const pid_t child = fork();
  if (child < 0) {
    close(ends[0]);
    close(ends[1]);
    return Error{Code::resource, "process not started", "", std::strerror(errno), ""};
  }
  if (child == 0) {
    close(ends[0]);
    child_main(ends[1], manifest, task, options, seconds);
  }
  close(ends[1]);
  std::string json;
  const double limit = seconds + options.hang_seconds;
  const bool hung = !read_all(ends[0], limit, json);
  close(ends[0]);
  if (hung) kill(child, SIGKILL);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return point_of(task, json, status, hung);
}

}  // namespace

Result<Report> check(const std::string& library, const Options& options) {
  namespace fs = std::filesystem;
  if (!system_files().is_regular(library)) {
    return Error{Code::not_found, "plugin not found", escaped(library),
                 "found no such file, expected a plugin's .so", ""};
  }
  const std::string info = fs::path(library).replace_extension(".info").string();
  LS_TRY(const plugin::Manifest manifest, plugin::read_manifest(fs::absolute(info).string()));
  Report out;
  out.plugin = manifest.name;
  out.version = manifest.version;
  out.library = manifest.library;
  std::vector<Task> tasks = {{"", nullptr}};
  bool found = options.method.empty();
  for (const std::string& method : manifest.methods) {
    if (!options.method.empty() && method != options.method) continue;
    found = true;
    for (const PointSpec& spec : all_points()) {
      const auto& wanted = options.points;
      if (wanted.empty() || std::find(wanted.begin(), wanted.end(), spec.name) != wanted.end()) {
        tasks.push_back({method, &spec});
      }
    }
  }
  if (!found) {
    return Error{
        Code::not_found, "unknown method", escaped(library),
        "found " + loadstone::quoted(options.method) + ", expected " + join(manifest.methods), ""};
  }
  const auto start = Clock::now();
  for (size_t i = 0; i < tasks.size(); ++i) {
    double share = 0;
    if (options.seconds > 0) {
      const double left = options.seconds - seconds_since(start);
      share = std::max(left / static_cast<double>(tasks.size() - i), 0.01);
    }
    if (options.isolate) {
      LS_TRY(Point point, run_apart(manifest, tasks[i], options, share));
      out.points.push_back(std::move(point));
    } else {
      out.points.push_back(run_task(manifest, tasks[i], options, share));
    }
    if (i == 0 && out.points[0].outcome == Outcome::failed) break;  // nothing more to see
  }
  return out;
}

}  // namespace loadstone::conformance
