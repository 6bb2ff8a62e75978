// The cases of tests/conformance, and how many of them run: each case on one backend; on the others a choice with every method of every
// family, or all of them where $DELTATUNE_TEST_ALL is ON (tests/run.sh --all).
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "deltatune/io/json_config.hpp"

namespace deltatune::test {

inline const std::filesystem::path kCases = std::filesystem::path(DELTATUNE_TEST_DIR) / "conformance/cases";
inline const std::filesystem::path kModels = std::filesystem::path(DELTATUNE_TEST_DIR) / "conformance/models";

struct ConformanceCase {
  std::string name = {};     // of the folder
  std::string family = {};   // "bert", "gpt2"
  std::string library = {};  // "peft", "adapters", "opendelta"; "" where the model has no adapter
  std::string method = {};   // "lora", ...; what trains ("bitfit", "full", ...) where the model has no adapter; "" where nothing does
};

inline ConformanceCase conformance_case(const std::string& name) {
  const JsonConfig about = JsonConfig::open(kCases / name / "case.json");
  ConformanceCase c{.name = name, .family = JsonConfig::open(kModels / about.get<std::string>("model") / "config.json").get<std::string>("model_type")};
  if (!about.has("adapter")) {
    if (about.has("trainable")) c.method = about.get<std::string>("trainable");
  } else if (about.has("library")) {
    c.library = about.get<std::string>("library");
    c.method = about.get<std::string>("method");
  } else {  // the first cases say neither
    c.library = "peft";
    c.method = "lora";
  }
  return c;
}

// All, by name.
inline std::vector<ConformanceCase> conformance_cases() {
  std::vector<ConformanceCase> cases;
  for (const auto& entry : std::filesystem::directory_iterator(kCases)) cases.push_back(conformance_case(entry.path().filename().string()));
  std::sort(cases.begin(), cases.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return cases;
}

// The first of each family, library and method.
inline std::vector<ConformanceCase> covering_choice(const std::vector<ConformanceCase>& cases) {
  std::set<std::tuple<std::string, std::string, std::string>> seen;
  std::vector<ConformanceCase> chosen;
  for (const ConformanceCase& c : cases)
    if (seen.emplace(c.family, c.library, c.method).second) chosen.push_back(c);
  return chosen;
}

inline bool all_tests_wanted() {
  const char* const value = std::getenv("DELTATUNE_TEST_ALL");
  return value != nullptr && std::string_view(value) == "ON";
}

// What runs on a backend. main_backend: the one that has all cases in any run.
inline std::vector<ConformanceCase> cases_for(bool main_backend) {
  const std::vector<ConformanceCase> all = conformance_cases();
  return main_backend || all_tests_wanted() ? all : covering_choice(all);
}

}  // namespace deltatune::test
