#include "runtime/compare/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/text.hpp"
#include "runtime/compare/heat_map.hpp"
#include "runtime/compare/html_text.hpp"

namespace loadstone::compare {
namespace {

constexpr size_t kMaxPairs = 8;

std::vector<size_t> shown_pairs(size_t count) {
  std::vector<size_t> pairs;
  if (count > kMaxPairs) return {0, count / 2, count - 1};
  for (size_t i = 0; i < count; ++i) pairs.push_back(i);
  return pairs;
}

Result<std::string> pictures(std::span<const Frame> reference, std::span<const Frame> candidate) {
  std::string out;
  for (size_t i : shown_pairs(reference.size())) {
    const uint32_t full = largest_difference(reference[i], candidate[i]);
    LS_TRY(const std::string left, html::figure(reference[i], "reference", "reference"));
    LS_TRY(const std::string middle, html::figure(candidate[i], "candidate", "candidate"));
    LS_TRY(const std::string right,
           html::figure(heat_map(reference[i], candidate[i], full), "difference",
                        fmt::format("difference, black 0 to white {} of 255", full)));
    out += fmt::format("<h2>Picture {} of {}</h2>\n<div class=\"row\">{}{}{}</div>\n", i + 1,
                       reference.size(), left, middle, right);
  }
  return out;
}

std::string verdict(const Threshold& threshold, Gate gate, double value) {
  const double limit = gate == Gate::smoke ? threshold.smoke : threshold.strict;
  const bool good = passes(threshold, gate, value);
  return fmt::format("<td class=\"{}\">{} {} {}</td>", good ? "yes" : "no", good ? "✓" : "✗",
                     threshold.at_least ? "≥" : "≤", html::number(limit));
}

std::optional<double> threshold_value(const Comparison& comparison, const Threshold& threshold) {
  if (threshold.metric == "generation_time_ratio") return comparison.time_ratio();
  if (threshold.metric == "peak_memory_ratio") return comparison.memory_ratio();
  return metric_value(comparison.metrics.all, threshold.metric);
}

std::string_view description_of(std::string_view metric) {
  for (const Description& line : descriptions()) {
    if (line.metric == metric) return line.text;
  }
  return "";
}

std::string thresholds_table(const Comparison& comparison) {
  std::string out =
      "<h2>Against the thresholds</h2>\n<table><caption>Over all pictures together. Ratios are "
      "advice; the four picture metrics make the gate.</caption>\n<tr><th>metric<th class=\"n\">"
      "value<th>smoke<th>strict<th>meaning</tr>\n";
  for (const Threshold& threshold : thresholds()) {
    const auto value = threshold_value(comparison, threshold);
    if (!value) continue;
    out += fmt::format(
        "<tr><td><code>{}</code><td class=\"n\">{}</td>{}{}<td>{}</tr>\n", threshold.metric,
        html::number(*value), verdict(threshold, Gate::smoke, *value),
        verdict(threshold, Gate::strict, *value), html::text(description_of(threshold.metric)));
  }
  return out + "</table>\n";
}

std::string metrics_table(const FrameMetrics& frames) {
  std::string out = fmt::format(
      "<h2>All metrics</h2>\n<table><tr><th>metric<th class=\"n\">first<th class=\"n\">middle "
      "({})<th class=\"n\">all {}</tr>\n",
      frames.mid_index, frames.count);
  for (const Description& line : descriptions()) {
    const auto first = metric_value(frames.first, line.metric);
    if (!first) continue;
    out += fmt::format(
        "<tr><td><code>{}</code><td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}</tr>\n",
        line.metric, html::number(*first), html::number(*metric_value(frames.mid, line.metric)),
        html::number(*metric_value(frames.all, line.metric)));
  }
  return out + "</table>\n";
}

std::string error_cells(const std::optional<double>& value, double largest) {
  if (!value) return "<td class=\"n\">–<td>";
  return fmt::format("<td class=\"n\">{}<td>{}", html::number(*value),
                     html::bar(largest > 0 ? *value / largest : 0));
}

std::string layers_table(const std::vector<LayerError>& layers) {
  if (layers.empty()) return "";
  double weight = 0, output = 0;
  for (const LayerError& layer : layers) {
    weight = std::max(weight, layer.weight.value_or(0));
    output = std::max(output, layer.output.value_or(0));
  }
  std::string out =
      "<h2>Errors per layer</h2>\n<table><caption>Relative L2: of the dequantized weight against "
      "the reference's weight, and of the layer's output against the reference's product of the "
      "same input; – where a side doesn't need the layer.</caption>\n<tr><th>layer<th>method<th class=\"n\">weight<th><th class=\"n\">"
      "output<th></tr>\n";
  for (const LayerError& layer : layers) {
    out += fmt::format("<tr><td><code>{}.{}</code><td>{}{}{}</tr>\n", html::text(layer.component),
                       html::text(layer.layer), html::text(layer.method),
                       error_cells(layer.weight, weight), error_cells(layer.output, output));
  }
  return out + "</table>\n";
}

std::string peak_text(const Generation& generation) {
  const auto peak = generation.max_peak_mib();
  return peak ? fmt::format("{:.1f} MiB", *peak) : "not measured";
}

std::string cost_table(const Comparison& c) {
  if (c.reference_dir) return "";
  const auto ratio = [](std::optional<double> value) {
    return value ? html::number(*value) : std::string("–");
  };
  const Generation &r = c.reference_generation, &k = c.candidate_generation;
  std::string out =
      "<h2>Time and memory</h2>\n<table><tr><th><th class=\"n\">reference<th class=\"n\">"
      "candidate<th class=\"n\">ratio</tr>\n";
  out += fmt::format(
      "<tr><td>generation, mean of {}<td class=\"n\">{:.3f} s<td class=\"n\">{:.3f} s"
      "<td class=\"n\">{}</tr>\n",
      c.measure_runs, r.average_seconds(), k.average_seconds(), ratio(c.time_ratio()));
  out += fmt::format("<tr><td>load<td class=\"n\">{:.3f} s<td class=\"n\">{:.3f} s<td></tr>\n",
                     r.load_seconds, k.load_seconds);
  out += fmt::format(
      "<tr><td>peak memory<td class=\"n\">{}<td class=\"n\">{}<td class=\"n\">{}"
      "</tr>\n",
      peak_text(r), peak_text(k), ratio(c.memory_ratio()));
  out += fmt::format("<tr><td>stored weights<td class=\"n\">{}<td class=\"n\">{}<td></tr>\n",
                     human_nbytes(r.stored_nbytes), human_nbytes(k.stored_nbytes));
  return out + "</table>\n";
}

std::string variant_text(const VariantConfig& variant) {
  std::string method = "as the checkpoint declares";
  if (variant.quantization) method = *variant.quantization;
  if (variant.quantization_config) method = variant.quantization_config->to_json();
  return fmt::format("<code>{}</code>, quantization <code>{}</code>", html::text(variant.model),
                     html::text(method));
}

std::string heading(const Comparison& c) {
  if (c.reference_dir) {
    return fmt::format("<p>reference <code>{}</code><br>candidate <code>{}</code></p>\n",
                       html::text(*c.reference_dir), html::text(c.candidate_dir.value_or("")));
  }
  std::string out = fmt::format("<p>reference: {}<br>candidate: {}</p>\n",
                                variant_text(c.reference_config), variant_text(c.candidate_config));
  out += fmt::format("<p>“{}”{}, seed {}, {} steps, {}x{}, guidance {}</p>\n", html::text(c.prompt),
                     c.negative_prompt ? ", negative “" + html::text(*c.negative_prompt) + "”" : "",
                     c.seed, c.sampling.num_inference_steps, c.sampling.width, c.sampling.height,
                     c.negative_prompt ? html::number(c.sampling.cfg_scale) : "off");
  return out;
}

std::string gate_line(const Comparison& c) {
  if (!c.gate) return "";
  const auto failures = gate_failures(c.metrics.all, *c.gate);
  if (failures.empty())
    return fmt::format("<p class=\"yes\">gate {} passed</p>\n", to_string(*c.gate));
  return fmt::format("<p class=\"no\">gate {} not passed: {}</p>\n", to_string(*c.gate),
                     html::text(join(failures, " and ")));
}

std::string notes_list(const std::vector<std::string>& notes) {
  if (notes.empty()) return "";
  std::string out = "<h2>Notes</h2>\n<ul>\n";
  for (const std::string& note : notes) out += "<li>" + html::text(note) + "</li>\n";
  return out + "</ul>\n";
}

}  // namespace

Result<std::string> html_report(const Comparison& comparison, std::span<const Frame> reference,
                                std::span<const Frame> candidate) {
  LS_TRY(const std::string shown, pictures(reference, candidate));
  std::string out = fmt::format(
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\">\n<title>loadstone compare</title>\n"
      "<style>{}</style></head><body>\n<h1>Output comparison</h1>\n",
      html::style());
  out += heading(comparison) + gate_line(comparison) + shown;
  out += thresholds_table(comparison) + metrics_table(comparison.metrics);
  out += cost_table(comparison) + layers_table(comparison.layers) + notes_list(comparison.notes);
  return out + "</body></html>\n";
}

}  // namespace loadstone::compare
