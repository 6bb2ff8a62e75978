// Whatever the text: either an Error, or every key can be asked for as every type, with a value or an Error as answer.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "deltatune/io/json_config.hpp"

namespace {

template <class T>
void get(const deltatune::JsonConfig& config, const std::string& key) {
  try {
    config.get<T>(key);
    config.get_or<T>(key, T{});
  } catch (const deltatune::Error&) {
  }
}

void read(const deltatune::JsonConfig& config) {
  for (const auto& [key, value] : config.raw().items()) {
    get<bool>(config, key);
    get<std::int64_t>(config, key);
    get<double>(config, key);
    get<std::string>(config, key);
    get<std::vector<std::string>>(config, key);
    get<std::vector<std::int64_t>>(config, key);
    if (value.is_object()) read(config.object(key));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    read(deltatune::JsonConfig::parse(std::string_view(reinterpret_cast<const char*>(data), size), "input"));
  } catch (const deltatune::Error&) {
  }
  return 0;
}
