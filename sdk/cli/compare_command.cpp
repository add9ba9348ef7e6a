// loadstone compare: two models that draw, or two folders of pictures, and what differs.
#include <fmt/format.h>

#include <filesystem>

#include "base/text.hpp"
#include "commands.hpp"
#include "compare_flags.hpp"
#include "compare_models.hpp"
#include "exit_code.hpp"
#include "interrupt.hpp"
#include "outputs.hpp"
#include "runtime/compare/png.hpp"
#include "runtime/compare/report.hpp"
#include "table.hpp"

namespace loadstone::cli {
namespace {

/// Everything that will be written, reserved before the work.
struct Outputs {
  std::optional<Output> json, report;
  std::optional<OutputFolder> reference, candidate;
};

Result<Outputs> reserve_outputs(const CompareOptions& options) {
  Outputs out;
  LS_TRY(Output json, Output::reserve_with_folders(options.output_json));
  out.json.emplace(std::move(json));
  if (options.report) {
    LS_TRY(Output report, Output::reserve_with_folders(*options.report));
    out.report.emplace(std::move(report));
  }
  if (options.save_output_dir) {
    LS_TRY(OutputFolder left, OutputFolder::reserve(*options.save_output_dir + "/reference"));
    out.reference.emplace(std::move(left));
    LS_TRY(OutputFolder right, OutputFolder::reserve(*options.save_output_dir + "/candidate"));
    out.candidate.emplace(std::move(right));
  }
  return out;
}

Result<std::vector<std::string>> save_pictures(const std::string& folder,
                                               const std::vector<compare::Frame>& frames) {
  std::vector<std::string> paths;
  for (size_t i = 0; i < frames.size(); ++i) {
    paths.push_back(fmt::format("{}/image_{}.png", folder, i));
    LS_TRY(const std::string png, compare::encode_png(frames[i]));
    LS_TRY(Output file, Output::reserve(paths.back()));
    LS_CHECK(file.write(png));
  }
  return paths;
}

Status write_outputs(Outputs& outputs, compare::Outcome& outcome) {
  compare::Comparison& comparison = outcome.comparison;
  if (outputs.reference && outputs.candidate) {
    LS_TRY(comparison.reference_outputs,
           save_pictures(outputs.reference->path(), outcome.reference));
    LS_TRY(comparison.candidate_outputs,
           save_pictures(outputs.candidate->path(), outcome.candidate));
    comparison.outputs_saved = true;
  }
  if (outputs.report) {
    LS_TRY(const std::string page,
           compare::html_report(comparison, outcome.reference, outcome.candidate));
    LS_CHECK(outputs.report->write(page));
  }
  return outputs.json->write(compare::to_json(comparison));
}

std::string gate_mark(const compare::Threshold& threshold, compare::Gate gate, double value) {
  return compare::passes(threshold, gate, value) ? "yes" : "no";
}

std::string for_people(const CompareOptions& options, const compare::Comparison& comparison) {
  std::string out = "output_json: " + escaped(options.output_json) + "\n";
  if (!comparison.reference_dir) {
    out += fmt::format("reference avg_generation_time_s: {:.4f}\n",
                       comparison.reference_generation.average_seconds());
    out += fmt::format("candidate avg_generation_time_s: {:.4f}\n",
                       comparison.candidate_generation.average_seconds());
  }
  out += fmt::format("image0 psnr_db: {:.4f}\nimage0 mae: {:.4f}\n\n",
                     comparison.metrics.first.psnr_db, comparison.metrics.first.mae);
  Table table({{fmt::format("over all {}", comparison.metrics.count)},
               {"value", Align::right},
               {"smoke"},
               {"strict"}});
  for (const compare::Threshold& threshold : compare::thresholds()) {
    const auto value = compare::metric_value(comparison.metrics.all, threshold.metric);
    if (!value) continue;
    table.add({std::string(threshold.metric), fmt::format("{:.5g}", *value),
               gate_mark(threshold, compare::Gate::smoke, *value),
               gate_mark(threshold, compare::Gate::strict, *value)});
  }
  return out + table.text();
}

}  // namespace

Result<int> run(const CompareOptions& options) {
  interrupt_token();  // from here on, SIGINT cancels
  LS_TRY(const CompareReview review, review_flags(options));
  LS_TRY(Outputs outputs, reserve_outputs(options));
  LS_TRY(compare::Outcome outcome,
         options.reference_dir ? compare::compare_folders(system_files(), *options.reference_dir,
                                                          *options.candidate_dir)
                               : compare_models(options, review.request));
  compare::Comparison& comparison = outcome.comparison;
  comparison.notes.insert(comparison.notes.begin(), review.notes.begin(), review.notes.end());
  comparison.gate = review.gate;
  for (const std::string& note : comparison.notes) print_note(note);
  LS_CHECK(write_outputs(outputs, outcome));
  LS_CHECK(print(for_people(options, comparison)));
  if (!review.gate) return kFine;
  const auto failures = compare::gate_failures(comparison.metrics.all, *review.gate);
  for (const std::string& failure : failures) {
    write_err("loadstone: gate not passed: " + failure + "\n");
  }
  return failures.empty() ? kFine : kGateNotPassed;
}

}  // namespace loadstone::cli
