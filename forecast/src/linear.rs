//! Symmetric positive definite systems, small and dense.

/// Solves `matrix * x = right` in place (`right` becomes `x`) by Cholesky's factors, which replace the lower triangle.
///
/// `matrix` is row by row, of `right.len()` squared values. False when it is not positive definite; then `right` holds
/// nothing of use.
pub(crate) fn solve_in_place(matrix: &mut [f64], right: &mut [f64]) -> bool {
    let size = right.len();
    assert_eq!(matrix.len(), size * size, "a square matrix of the right side's size");
    for row in 0..size {
        for column in 0..=row {
            let known: f64 = (0..column).map(|k| matrix[row * size + k] * matrix[column * size + k]).sum();
            let rest = matrix[row * size + column] - known;
            if column < row {
                matrix[row * size + column] = rest / matrix[column * size + column];
            } else if rest > 0.0 && rest.is_finite() {
                matrix[row * size + row] = rest.sqrt();
            } else {
                return false;
            }
        }
    }
    for row in 0..size {
        let known: f64 = (0..row).map(|k| matrix[row * size + k] * right[k]).sum();
        right[row] = (right[row] - known) / matrix[row * size + row];
    }
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|k| matrix[k * size + row] * right[k]).sum();
        right[row] = (right[row] - known) / matrix[row * size + row];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::solve_in_place;

    #[test]
    fn a_system_is_solved() {
        let mut matrix = [4.0, 2.0, 0.6, 2.0, 5.0, 1.0, 0.6, 1.0, 3.0];
        let mut right = [4.0 + 4.0 + 1.8, 2.0 + 10.0 + 3.0, 0.6 + 2.0 + 9.0];
        assert!(solve_in_place(&mut matrix, &mut right));
        for (solved, expected) in right.iter().zip([1.0, 2.0, 3.0]) {
            assert!((solved - expected).abs() < 1e-12, "{right:?}");
        }
    }

    #[test]
    fn a_singular_matrix_is_refused() {
        assert!(!solve_in_place(&mut [1.0, 1.0, 1.0, 1.0], &mut [1.0, 1.0]));
    }
}
