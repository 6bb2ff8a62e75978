// Parameters from and to tensors of a file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "deltatune/core/error.hpp"
#include "deltatune/io/safetensors.hpp"
#include "deltatune/param/parameter.hpp"

namespace deltatune {

// Host numbers, row-major, into a parameter's values from number `first` on; rounded, where the layer holds them so.
template <class X, class Host>
void upload_values(context_of<X>& ctx, std::span<const Host> host, Parameter<X>& parameter, Index first = 0) {
  using T = scalar_of<X>;
  const auto copy_as = [&](auto* to) {
    using E = std::remove_pointer_t<decltype(to)>;
    std::vector<E> converted;
    converted.reserve(host.size());
    for (const Host x : host) {
      if constexpr (std::is_same_v<E, Bfloat16>) {
        converted.push_back(E(static_cast<float>(x)));
      } else {
        converted.push_back(E(x));
      }
    }
    backend_of<X>::copy_in(ctx, converted.data(), to, static_cast<Index>(converted.size() * sizeof(E)));
  };
  if (const View<Bfloat16> rounded = parameter.rounded_values()) return copy_as(rounded.data + first);
  T* const to = parameter.value().data + first;
  if constexpr (std::is_same_v<T, Host>) {
    backend_of<X>::copy_in(ctx, host.data(), to, static_cast<Index>(host.size_bytes()));
  } else {
    copy_as(to);
  }
}

namespace detail {

// Columns of a row-major matrix as rows.
template <class E>
std::vector<E> transposed(const std::vector<E>& matrix, const Shape& shape) {
  std::vector<E> result;
  result.reserve(matrix.size());
  for (Index j = 0; j < shape.at(1); ++j)
    for (Index i = 0; i < shape.at(0); ++i) result.push_back(matrix[static_cast<std::size_t>(i * shape[1] + j)]);
  return result;
}

}  // namespace detail

// Throws Error when a tensor has another shape than a file of the parameter's.
template <class X>
void check_fits(const TensorInfo& tensor, const Parameter<X>& parameter) {
  if (tensor.shape != parameter.file_shape())
    throw Error(tensor.file + ": " + tensor.name, "does not fit the model's " + parameter.path(),
                {.expected = "shape " + to_string(parameter.file_shape()), .got = to_string(tensor.shape)});
}

// Reads a tensor into a parameter's values, a piece at a time where the order is the same. Throws Error when shape or element type do not fit.
template <class X>
void read_parameter(context_of<X>& ctx, const TensorInfo& tensor, Parameter<X>& parameter) {
  using T = scalar_of<X>;
  check_fits(tensor, parameter);
  using Host = std::conditional_t<std::is_same_v<T, float>, float, double>;
  constexpr Index kPiece = 1 << 18;
  const Index piece = parameter.transposed_in_file() ? parameter.size() : std::min(parameter.size(), kPiece);
  std::vector<Host> host(static_cast<std::size_t>(piece));
  for (Index first = 0; first < parameter.size(); first += piece) {
    host.resize(static_cast<std::size_t>(std::min(piece, parameter.size() - first)));
    read_floats(tensor.part(first, static_cast<Index>(host.size())), std::span<Host>(host));
    if (parameter.transposed_in_file()) host = detail::transposed(host, tensor.shape);
    upload_values(ctx, std::span<const Host>(host), parameter, first);
  }
}

// A matrix of the backend as float numbers on the host, row-major.
template <class X>
std::vector<float> download_floats(context_of<X>& ctx, View<const scalar_of<X>> values) {
  using T = scalar_of<X>;
  std::vector<T> host(static_cast<std::size_t>(values.size()));
  for (Index i = 0; i < values.rows; ++i)
    backend_of<X>::copy_out(ctx, values.row(i), host.data() + i * values.cols, values.cols * static_cast<Index>(sizeof(T)));
  backend_of<X>::synchronize(ctx);
  if constexpr (std::is_same_v<T, float>) {
    return host;
  } else {
    std::vector<float> converted;
    converted.reserve(host.size());
    for (const T& x : host) converted.push_back(static_cast<float>(value_of(x)));
    return converted;
  }
}

// A parameter's values, or its gradient, as a file holds them: in file_shape().
template <class X>
std::vector<float> download_in_file_order(context_of<X>& ctx, const Parameter<X>& parameter, View<const scalar_of<X>> values) {
  std::vector<float> host = download_floats<X>(ctx, values);
  return parameter.transposed_in_file() ? detail::transposed(host, parameter.shape()) : host;
}

// Into a file to be written: under `name`, or where the parameter is sparse as <name>.indices (int64, row-major, rising) and <name>.values.
template <class X>
void write_parameter(context_of<X>& ctx, const std::string& name, const Parameter<X>& parameter, SafeTensorsWriter& writer) {
  const std::vector<float> values = download_in_file_order<X>(ctx, parameter, parameter.value());
  if (!parameter.sparse_in_file()) return writer.add_copy(name, parameter.file_shape(), values);
  std::vector<std::int64_t> indices;
  std::vector<float> others;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] == 0.0F) continue;
    indices.push_back(static_cast<std::int64_t>(i));
    others.push_back(values[i]);
  }
  const Index count = static_cast<Index>(others.size());
  writer.add_copy(name + ".indices", {count}, indices);
  writer.add_copy(name + ".values", {count}, others);
}

// The pull-back of that; the other values become 0. Throws Error unless the indices rise and lie in the parameter.
template <class X>
void read_sparse_parameter(context_of<X>& ctx, const TensorInfo& indices, const TensorInfo& values, Parameter<X>& parameter) {
  const std::vector<std::int64_t> places = read_integers(indices);
  std::vector<float> sparse(places.size()), dense(static_cast<std::size_t>(parameter.size()));
  read_floats(values, std::span<float>(sparse));
  std::int64_t last = -1;
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (places[i] <= last || places[i] >= parameter.size())
      throw Error(indices.file + ": " + indices.name, "holds a place that is out of order or outside " + parameter.path(),
                  {.expected = "rising numbers below " + std::to_string(parameter.size()), .got = std::to_string(places[i])});
    last = places[i];
    dense[static_cast<std::size_t>(last)] = sparse[i];
  }
  if (parameter.transposed_in_file()) dense = detail::transposed(dense, parameter.file_shape());
  upload_values(ctx, std::span<const float>(dense), parameter);
}

}  // namespace deltatune
