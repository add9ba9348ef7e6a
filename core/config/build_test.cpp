// build_quant_config and whole files, over a schema of the tests' own.
#include <gtest/gtest.h>

#include "config/attention.hpp"
#include "config/engine_keys.hpp"
#include "config/quant_config.hpp"

namespace loadstone::config {
namespace {

Field field(std::string name, FieldType type, Node fallback) {
  Field out;
  out.name = std::move(name);
  out.type = type;
  out.fallback = std::move(fallback);
  return out;
}

Schemas schemas() {
  Schemas out;
  MethodSchema one{"one_way", {"uno", "still-way"}, "p", {}};
  one.implied["still_way"] = {{"scheme", "static"}};
  Field scheme = field("scheme", FieldType::text, Node::of_text("dynamic"));
  scheme.choices = {"dynamic", "static"};
  Field bits = field("bits", FieldType::integer, Node::of_integer(8));
  bits.low = 2;
  bits.high = 8;
  Field steps = field("steps", FieldType::integers, Node::of_list({}));
  steps.low = 0;
  Field flag = field("flag", FieldType::boolean, Node::of_bool(false));
  Field ratio = field("ratio", FieldType::number, Node());
  Field serialized = field("is_serialized", FieldType::boolean, Node::of_bool(false));
  serialized.declared_only = true;
  one.fields = {scheme,
                bits,
                steps,
                flag,
                ratio,
                serialized,
                field("ignored_layers", FieldType::texts, Node::of_list({})),
                field("extra", FieldType::tree, Node())};
  out.methods = {one, MethodSchema{"toolish", {}, "q", {}}};
  out.refused = {{"old-format", "ask for another"}};
  return out;
}

std::string build(const std::string& yaml, const std::string& kwargs = "") {
  auto spec = parse_yaml(yaml, "c.yaml");
  if (!spec.ok()) return spec.error().text();
  auto options = parse_yaml(kwargs, "k");
  auto made = build_quant_config(*spec, *options, schemas());
  if (!made.ok()) return made.error().text();
  if (made->explicitly_none) return "none";
  if (!made->configured) return "nothing";
  std::string out = made->flat ? made->flat->method : "";
  auto say = [](const MethodChoice& choice) {
    std::string text;
    for (const auto& [name, value] : choice.fields) {
      if (value.from != From::fallback) text += " " + name + "=" + value.value.to_json();
    }
    return text;
  };
  if (made->flat) out += say(*made->flat);
  for (const auto& [key, choice] : made->components) {
    out +=
        (out.empty() ? "" : "; ") + key + ": " + (choice ? choice->method + say(*choice) : "keep");
  }
  return out;
}

struct Case {
  std::string yaml, kwargs, expected;
};

void check(const std::vector<Case>& cases) {
  for (const Case& one : cases) EXPECT_EQ(build(one.yaml, one.kwargs), one.expected) << one.yaml;
}

TEST(BuildTest, AnAliasAloneStandsForItsFields) {
  check({{"uno", "", "one_way"},
         {"Still-Way", "", "one_way scheme=\"static\""},
         {"{method: still_way}", "", "one_way scheme=\"static\""},
         {"{method: still_way, bits: 4}", "", "one_way bits=4"},
         {"{method: still_way, scheme: dynamic}", "", "one_way scheme=\"dynamic\""}});
}

TEST(Build, Forms) {
  check({
      {"", "", "nothing"},
      {"null", "", "nothing"},
      {"none", "", "none"},
      {"NONE", "", "none"},
      {"one_way", "", "one_way"},
      {"One-Way", "", "one_way"},
      {"UNO", "", "one_way"},
      {"one_way", "{bits: 4}", "one_way bits=4"},
      {"{method: uno, bits: 4}", "", "one_way bits=4"},
      {"{method: uno, bits: 4}", "{bits: 2, scheme: static}", "one_way bits=2 scheme=\"static\""},
      {"{quant_method: one-way}", "", "one_way"},
      {"{method: uno, quant_method: one_way}", "", "one_way"},
      {"{method: ~, quant_method: uno}", "", "one_way"},
      {"{method: uno, bits: null, ignored_layers: null}", "", "one_way"},
      {"{producer: {name: Toolish, version: 1}}", "",
       "unknown field of toolish: c.yaml:1:2: found \"producer\", expected no field"},
  });
}

TEST(Build, ComponentMaps) {
  check({
      {"{a: {method: uno, bits: 4}, b: null}", "", "a: one_way bits=4; b: keep"},
      {"{a: null}", "", "a: keep"},
      {"{a: uno}", "", "a: one_way"},
      {"{a: uno, b: none, default: uno}", "", "a: one_way; b: keep; default: one_way"},
      {"{'a*': uno, b: null}", "", "a*: one_way; b: keep"},
      {"{\"\": uno, b: null}", "",
       "component rejected: c.yaml:1:2: found an empty name, expected a component's name"},
      {"{a: {method: uno}, b: {bits: 4}}", "",
       "method missing: c.yaml:1:23: found a map without \"method\" or \"quant_method\", expected "
       "one "
       "of them or a map of components"},
      {"{a: {method: uno}, b: [1]}", "",
       "method missing: c.yaml:1:1: found a map without \"method\" or \"quant_method\", expected "
       "one "
       "of them or a map of components"},
      {"{METHOD: uno}", "",
       "method missing: c.yaml:1:1: found a map without \"method\" or \"quant_method\", expected "
       "one "
       "of them or a map of components; did you mean \"method\"?"},
      {"{bits: \"4\"}", "",
       "method missing: c.yaml:1:1: found a map without \"method\" or \"quant_method\", expected "
       "one "
       "of them or a map of components"},
      {"{a: uno, b: duo, c: null}", "",
       "unknown quantization method: c.yaml:1:13: found \"duo\", expected one_way or toolish; did "
       "you "
       "mean \"uno\"?"},
      {"{a: null}", "{bits: 4}",
       "keyword options rejected: k:1:1: found \"bits\" beside a map of components, expected "
       "options "
       "only beside one method"},
  });
}

TEST(Build, S34_RefusesWhatMeansNothing) {
  check({
      {"\"\"", "",
       "unknown quantization method: c.yaml:1:1: found \"\", expected one_way or toolish"},
      {"\"null\"", "",
       "unknown quantization method: c.yaml:1:1: found \"null\", expected one_way or toolish"},
      {"\" uno\"", "",
       "unknown quantization method: c.yaml:1:1: found \" uno\", expected one_way or toolish; did "
       "you "
       "mean \"uno\"?"},
      {"[uno]", "",
       "quantization rejected: c.yaml:1:1: found a list of 1, expected a method's name or a map"},
      {"{}", "",
       "method missing: c.yaml:1:1: found a map without \"method\" or \"quant_method\", expected "
       "one "
       "of them or a map of components"},
      {"old_format", "", "method refused: c.yaml:1:1: found \"old_format\": ask for another"},
      {"{method: uno, quant_method: toolish}", "",
       "method given twice: c.yaml:1:15: found method \"uno\" and quant_method \"toolish\", "
       "expected "
       "one of them or equal names"},
      {"{method: [uno]}", "",
       "value of \"method\" rejected: c.yaml:1:10: found a list of 1, expected a method's name"},
      {"{method: uno, bitz: 4, skeme: x}", "",
       "unknown field of one_way: c.yaml:1:15: found \"bitz\", expected one of scheme, bits, "
       "steps, "
       "flag, ratio, is_serialized, ignored_layers or extra; did you mean \"bits\"?\n"
       "unknown field of one_way: c.yaml:1:24: found \"skeme\", expected one of scheme, bits, "
       "steps, "
       "flag, ratio, is_serialized, ignored_layers or extra; did you mean \"scheme\"?"},
      {"{method: uno, is_serialized: true}", "",
       "field of a checkpoint's declaration: c.yaml:1:15: found \"is_serialized\" beside "
       "\"method\", "
       "expected it only in a checkpoint's own dict (with \"quant_method\")"},
      {"{quant_method: uno, is_serialized: true}", "", "one_way is_serialized=true"},
      {"{quant_method: uno, modules_to_not_convert: [a]}", "", "one_way ignored_layers=[\"a\"]"},
      {"{quant_method: uno, modules_to_not_convert: [a], ignored_layers: [b]}", "",
       "one_way ignored_layers=[\"b\"]"},
      {"{quant_method: uno, ignored_layers: [], modules_to_not_convert: [a]}", "",
       "one_way ignored_layers=[\"a\"]"},
      {"uno", "{method: uno}",
       "keyword option rejected: k:1:10: found \"method\" beside a method, expected fields of it "
       "only"},
      {"none", "{bits: 4}",
       "keyword options rejected: k:1:1: found \"bits\" beside \"none\", expected options only "
       "beside "
       "one method"},
      {"", "{bits: 4}",
       "keyword options rejected: k:1:1: found \"bits\" beside no method, expected options only "
       "beside one method"},
      {"uno", "[1]", "keyword options rejected: k:1:1: found a list of 1, expected a map"},
  });
}

TEST(Build, S36_FieldsHaveTypes) {
  auto refused = [](const std::string& value, const std::string& column, const std::string& rest) {
    return "value of \"" + value + "\" rejected: c.yaml:1:" + column + ": " + rest;
  };
  check({
      {"{method: uno, bits: 1}", "",
       refused("bits", "21", "found 1, expected a decimal integer from 2 to 8")},
      {"{method: uno, bits: 9}", "",
       refused("bits", "21", "found 9, expected a decimal integer from 2 to 8")},
      {"{method: uno, bits: 2}", "", "one_way bits=2"},
      {"{method: uno, bits: 010}", "",
       refused("bits", "21", "found \"010\", expected a decimal integer from 2 to 8")},
      {"{method: uno, bits: 4.0}", "",
       refused("bits", "21", "found 4.0, expected a decimal integer from 2 to 8")},
      {"{method: uno, bits: true}", "",
       refused("bits", "21", "found true, expected a decimal integer from 2 to 8")},
      {"{method: uno, flag: yes}", "",
       refused("flag", "21", "found \"yes\", expected true or false")},
      {"{method: uno, flag: 1}", "", refused("flag", "21", "found 1, expected true or false")},
      {"{method: uno, ratio: .nan}", "",
       refused("ratio", "22", "found \".nan\", expected a finite number")},
      {"{method: uno, ratio: 2}", "", "one_way ratio=2.0"},
      {"{method: uno, scheme: statik}", "",
       refused("scheme", "23",
               "found \"statik\", expected \"dynamic\" or \"static\"; did you mean \"static\"?")},
      {"{method: uno, scheme: Static}", "",
       refused("scheme", "23",
               "found \"Static\", expected \"dynamic\" or \"static\"; did you mean \"static\"?")},
      {"{method: uno, ignored_layers: x}", "",
       refused("ignored_layers", "31", "found \"x\", expected a list of texts")},
      {"{method: uno, ignored_layers: [no, 1, 2.5, true, ~]}", "",
       "one_way ignored_layers=[\"no\",\"1\",\"2.5\",\"true\",\"~\"]"},
      {"{method: uno, ignored_layers: [[a], {}]}", "",
       refused("ignored_layers", "32", "found a list of 1, expected a text") + "\n" +
           refused("ignored_layers", "37", "found a map of 0 keys, expected a text")},
      {"{method: uno, steps: [3, -1, true]}", "",
       refused("steps", "26", "found -1, expected a decimal integer of at least 0") + "\n" +
           refused("steps", "30", "found true, expected a decimal integer of at least 0")},
      {"{method: uno, steps: 3}", "",
       refused("steps", "22", "found 3, expected a list of integers of at least 0")},
      {"{method: uno, extra: {a: [1]}}", "", "one_way extra={\"a\":[1]}"},
      {"{method: no}", "",
       "unknown quantization method: c.yaml:1:10: found \"no\", expected one_way or "
       "toolish; did you mean \"uno\"?"},
  });
}

TEST(Build, AnExistingConfigurationIsTakenAsItIs) {
  auto made = build_quant_config(Node::of_text("uno"), Node(), schemas());
  ASSERT_TRUE(made.ok());
  auto again = build_quant_config(*made, Node(), schemas());
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->flat->method, "one_way");
  auto refused =
      build_quant_config(*made, Node::of_map({{"bits", Node::of_integer(4)}}), schemas());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().text(),
            "keyword options rejected: found \"bits\" beside an existing configuration, expected "
            "options only beside one method");
}

TEST(Build, PrintsItself) {
  auto made = build_quant_config(*parse_yaml("{a: {method: uno, bits: 4}, b: null}", "c"), Node(),
                                 schemas());
  const std::string text = made->to_node().to_json();
  EXPECT_EQ(
      text.find(
          R"({"method":null,"fields":{},"components":{"a":{"method":"one_way","fields":{"bits":{"value":4,"from":"user"},)"),
      0u)
      << text;
  EXPECT_NE(text.find(R"("scheme":{"value":"dynamic","from":"default"})"), std::string::npos);
  EXPECT_NE(text.find(R"(}},"b":null}})"), std::string::npos) << text;
}

// ---- whole files -----------------------------------------------------------------------------

std::string pipeline(const std::string& yaml) {
  auto root = parse_yaml(yaml, "c.yaml");
  if (!root.ok()) return root.error().text();
  auto made = build_pipeline_config(*root, schemas());
  return made.ok() ? "ok" : made.error().text();
}

TEST(Pipeline, ReadsEverySection) {
  const char* text = R"(
version: 1
model: examples/models/emoji
quantization: {transformer: {method: uno}, vae: null}
rules:
  - {component: transformer, layer: "a.{0..1}.*", use: keep}
  - {role: "mlp.*", kind: linear, dtype: BF16, min_elements: 10, max_elements: 20, use: {method: uno, bits: 4}, on_unsupported: keep, allow_unmatched: true}
components: {vae: {path: other/vae}}
load: {device: "cuda:0", dtype: bfloat16, ring: 256MiB, threads: 4, io: map, place: {text_encoder: cpu}}
attention: {kv_cache_dtype: auto}
on_unsupported: keep
allow_unmatched: true
)";
  auto made = build_pipeline_config(*parse_yaml(text, "c.yaml"), schemas());
  ASSERT_TRUE(made.ok()) << made.error().text();
  EXPECT_EQ(made->model, "examples/models/emoji");
  ASSERT_EQ(made->quantization.rules.size(), 2u);
  const Rule& rule = made->quantization.rules[1];
  EXPECT_EQ(*rule.role, "mlp.*");
  EXPECT_EQ(*rule.kind, "linear");
  EXPECT_EQ(*rule.dtype, "BF16");
  EXPECT_EQ(*rule.min_elements, 10u);
  EXPECT_EQ(*rule.max_elements, 20u);
  EXPECT_EQ(rule.use->field("bits")->integer(), 4);
  EXPECT_EQ(*rule.on_unsupported, OnUnsupported::keep);
  EXPECT_TRUE(rule.allow_unmatched);
  EXPECT_FALSE(made->quantization.rules[0].use.has_value());
  EXPECT_FALSE(made->quantization.rules[0].allow_unmatched);
  EXPECT_EQ(made->quantization.rules[0].mark.text(), "c.yaml:6:5");
  EXPECT_EQ(made->load.device, "cuda:0");
  EXPECT_EQ(made->load.dtype, "bfloat16");
  EXPECT_EQ(made->load.ring_nbytes, 256u << 20);
  EXPECT_EQ(made->load.threads, 4u);
  EXPECT_EQ(made->load.io, "map");
  EXPECT_EQ(made->load.place.at("text_encoder").device, "cpu");
  ASSERT_EQ(made->components.size(), 1u);
  EXPECT_EQ(made->components[0].path, "other/vae");
  EXPECT_EQ(made->quantization.on_unsupported, OnUnsupported::keep);
  EXPECT_TRUE(made->quantization.allow_unmatched);
}

TEST(Pipeline, RingTakesUnits) {
  const std::pair<std::string, uint64_t> cases[] = {
      {"4096", 4096}, {"1KiB", 1024}, {"2 MiB", 2u << 20}, {"1GiB", 1u << 30}, {"auto", 0}};
  for (const auto& [text, nbytes] : cases) {
    auto made = build_pipeline_config(*parse_yaml("load: {ring: " + text + "}", "c"), schemas());
    ASSERT_TRUE(made.ok()) << text;
    EXPECT_EQ(made->load.ring_nbytes, nbytes) << text;
  }
}

TEST(Pipeline, RunSectionSaysHowNetworksRun) {
  EXPECT_TRUE(build_pipeline_config(*parse_yaml("model: x", "c"), schemas())->run.graphs);
  EXPECT_TRUE(build_pipeline_config(*parse_yaml("run: null", "c"), schemas())->run.graphs);
  EXPECT_FALSE(
      build_pipeline_config(*parse_yaml("run: {graphs: false}", "c"), schemas())->run.graphs);
}

TEST(Pipeline, RefusesWithPlaceAndNearestName) {
  const std::pair<std::string, std::string> cases[] = {
      {"[1]",
       "configuration rejected: c.yaml:1:1: found a list of 1, expected a map with version, "
       "model, quantization, rules, components, load, run, attention, on_unsupported or "
       "allow_unmatched"},
      {"version: 2", "value of \"version\" rejected: c.yaml:1:10: found 2, expected 1"},
      {"modle: x",
       "unknown key of the configuration: c.yaml:1:1: found \"modle\", expected one of "
       "version, model, quantization, rules, components, load, run, attention, "
       "on_unsupported or allow_unmatched; did you mean \"model\"?"},
      {"rules: {a: b}",
       "rules rejected: c.yaml:1:8: found a map of 1 key, expected a list of rules"},
      {"rules: [x]",
       "rule rejected: c.yaml:1:9: found \"x\", expected a map such as {layer: \"…\", "
       "use: keep}"},
      {"rules: [{use: keep, min_elements: 5, max_elements: 4}]",
       "rule can't match: c.yaml:1:9: found min_elements 5 above max_elements 4, expected a range"},
      {"rules: [{use: keep, min_elements: -1}]",
       "value of \"min_elements\" rejected: c.yaml:1:35: found -1, expected a decimal integer of "
       "at "
       "least 0"},
      {"rules: [{use: keep, kind: conv}]",
       "value of \"kind\" rejected: c.yaml:1:27: found \"conv\", expected \"linear\", "
       "\"grouped_linear\", \"gather\", \"attention\" or \"other\""},
      {"rules: [{use: keep, layer: ''}]",
       "pattern rejected: c.yaml:1:28: \"\": found nothing, expected a name or a pattern"},
      {"rules: [{use: keep, layer: 'a.{3..1}'}]",
       "pattern rejected: c.yaml:1:28: \"a.{3..1}\": found range \"3..1\", expected at most 4096 "
       "ascending integers"},
      {"rules: [{use: keep, layer: 'a.{x..1}'}]",
       "pattern rejected: c.yaml:1:28: \"a.{x..1}\": found range \"x..1\", expected two decimal "
       "integers"},
      {"rules: [{use: fp9}]",
       "unknown quantization method: c.yaml:1:15: found \"fp9\", expected one_way or toolish"},
      {"load: {ring: 0}",
       "value of \"ring\" rejected: c.yaml:1:14: found 0, expected \"auto\", or "
       "bytes such as 256MiB"},
      {"load: {ring: 5MB}",
       "value of \"ring\" rejected: c.yaml:1:14: found \"5MB\", expected "
       "\"auto\", or bytes such as 256MiB"},
      {"load: {threads: 0}",
       "value of \"threads\" rejected: c.yaml:1:17: found 0, expected "
       "\"auto\", or an integer from 1 to 1024"},
      {"load: {dtype: floot32}",
       "value of \"dtype\" rejected: c.yaml:1:15: found \"floot32\", expected auto, bf16, f16 or "
       "f32; did you mean \"float32\"?"},
      {"load: {io: mmap}",
       "value of \"io\" rejected: c.yaml:1:12: found \"mmap\", expected pread or map; did you mean "
       "\"map\"?"},
      {"load: {io: 3}",
       "value of \"io\" rejected: c.yaml:1:12: found \"3\", expected pread or map"},
      {"load: {devise: cpu}",
       "unknown key of load: c.yaml:1:8: found \"devise\", expected one of "
       "device, dtype, io, ring, threads or place; did you mean \"device\"?"},
      {"components: {vae: x}",
       "value of \"vae\" rejected: c.yaml:1:19: found \"x\", expected a map "
       "with \"path\""},
      {"on_unsupported: skip",
       "value of \"on_unsupported\" rejected: c.yaml:1:17: found \"skip\", "
       "expected \"error\" or \"keep\""},
      {"allow_unmatched: yes",
       "value of \"allow_unmatched\" rejected: c.yaml:1:18: found \"yes\", "
       "expected true or false"},
      {"attention: {kv_cache_dtype: int8, skip_steps: 0-2}",
       "attention quantization refused: c.yaml:1:29: found \"int8\", expected \"fp8\", \"auto\" or "
       "\"float\""},
      {"attention: {skip_steps: '1'}",
       "attention decides nothing: c.yaml:1:12: found steps or layers to skip without "
       "\"kv_cache_dtype\", expected both or none"},
      {"attention: {skip_step: 1}",
       "unknown key of attention: c.yaml:1:13: found \"skip_step\", expected one of "
       "kv_cache_dtype, "
       "skip_steps or skip_layers; did you mean \"skip_steps\"?"},
  };
  for (const auto& [yaml, expected] : cases) EXPECT_EQ(pipeline(yaml), expected) << yaml;
}

TEST(Pipeline, AllProblemsAtOnce) {
  EXPECT_EQ(pipeline("version: 2\nquantization: fp9\nrules: [{layer: x}]\n"),
            "unknown quantization method: c.yaml:2:15: found \"fp9\", expected one_way or toolish\n"
            "value of \"version\" rejected: c.yaml:1:10: found 2, expected 1\n"
            "rule decides nothing: c.yaml:3:9: found no \"use\", expected a method or keep");
}

// ---- selectors and engine keys ---------------------------------------------------------------

TEST(Selector, Tokens) {
  auto say = [](const std::string& yaml) -> std::string {
    auto made = parse_selector(*parse_yaml(yaml, "c"));
    if (!made.ok()) return "refused";
    if (!*made) return "none";
    std::string out;
    for (uint64_t index : **made) out += std::to_string(index) + " ";
    return out;
  };
  const std::pair<std::string, std::string> cases[] = {
      {"\"0,1,4-6\"", "0 1 4 5 6 "},
      {"\"\"", "none"},
      {"\"  \"", "none"},
      {"\",\"", ""},
      {"\" 3 , 1 ,,1\"", "1 3 "},
      {"\"-1\"", "refused"},
      {"\"3-1\"", "refused"},
      {"\"1-\"", "refused"},
      {"\"1-2-3\"", "refused"},
      {"\"a\"", "refused"},
      {"\"1.5\"", "refused"},
      {"\"+1\"", "refused"},
      {"\"00,01\"", "0 1 "},
      {"[2, 0]", "0 2 "},
      {"[true]", "refused"},
      {"[-1]", "refused"},
      {"[\"1\"]", "refused"},
      {"3", "3 "},
      {"{}", "refused"},
      {"null", "none"},
      {"\"0-99999\"", say("\"0-99999\"")},
      {"\"0-100000\"", "refused"},
      {"\"5-5\"", "5 "},
  };
  for (const auto& [yaml, expected] : cases) EXPECT_EQ(say(yaml), expected) << yaml;
  EXPECT_NE(say("\"0-99999\""), "refused");
}

TEST(EngineKeys, DeprecatedSpellings) {
  auto say = [](const std::string& yaml) {
    auto made = fold_engine_keys(*parse_yaml(yaml, "c"));
    return made.ok() ? made->to_json() : made.error().text();
  };
  EXPECT_EQ(say("{quantization: fp8}"), R"({"quantization_config":"fp8"})");
  EXPECT_EQ(say("{kv_cache_dtype: fp8, x: 1}"), R"({"diffusion_kv_cache_dtype":"fp8","x":1})");
  EXPECT_EQ(say("{quantization: null, quantization_config: int8}"),
            R"({"quantization_config":"int8"})");
  EXPECT_EQ(say("{quantization_config: int8, quantization: null}"),
            R"({"quantization_config":"int8"})");
  EXPECT_EQ(say("{quantization: fp8, diffusion_quantization_config: fp8}"),
            "setting given twice: c:1:21: found \"diffusion_quantization_config\" beside another "
            "spelling of \"quantization_config\", expected one of them");
}

}  // namespace
}  // namespace loadstone::config
