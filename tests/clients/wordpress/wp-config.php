<?php
// WordPress's settings, from the environment that the test gives.
define('DB_HOST', getenv('HOST') . ':' . getenv('PORT'));
define('DB_USER', getenv('USER'));
define('DB_PASSWORD', getenv('PASSWORD'));
define('DB_NAME', getenv('DATABASE'));
define('DB_CHARSET', 'utf8mb4');
define('WP_HOME', getenv('SITE'));
define('WP_SITEURL', getenv('SITE'));

// It asks nobody: neither itself, which has one process here, nor wordpress.org.
define('DISABLE_WP_CRON', true);
define('WP_HTTP_BLOCK_EXTERNAL', true);
define('AUTOMATIC_UPDATER_DISABLED', true);

// What goes wrong is in the page, where the test sees it.
define('WP_DEBUG', true);
define('WP_DEBUG_DISPLAY', true);

$table_prefix = 'wp_';
require_once ABSPATH . 'wp-settings.php';
