WITH `t32` AS (
  SELECT
    `t10`.`region`,
    MAX(IF(`t10`.`name` = 'weather', `t10`.`value`, NULL)) AS `weather`,
    MAX(IF(`t10`.`name` = 'temperature', `t10`.`value`, NULL)) AS `temperature`,
    MAX(IF(`t10`.`name` = 'precipitation', `t10`.`value`, NULL)) AS `precipitation`
  FROM `small_table_1` AS `t10`
  GROUP BY
    1
), `t59` AS (
  SELECT
    `t41`.`customer_id`,
    `t48`.`customer_id` AS `customer_id_right`,
    `t48`.`points`,
    `t48`.`age`
  FROM (
    SELECT
      *
    FROM (
      SELECT
        `t5`.`customer_id`
      FROM `customers` AS `t5`
      WHERE
        (
          `t5`.`signed_up_at` IS NULL
        )
        OR (
          `t5`.`signed_up_at` <= TIMESTAMP('2026-06-15T00:00:00+00:00')
        )
    ) AS `t28`
    UNION DISTINCT
    SELECT
      *
    FROM (
      SELECT
        *
      FROM (
        SELECT
          `t9`.`customer_id`
        FROM `orders` AS `t9`
        WHERE
          `t9`.`customer_id` IS NOT NULL
          AND `t9`.`ordered_at` <= TIMESTAMP('2026-06-15T00:00:00+00:00')
      ) AS `t25`
      UNION DISTINCT
      SELECT
        *
      FROM (
        SELECT
          `t1`.`customer_id`
        FROM `events` AS `t1`
        WHERE
          `t1`.`customer_id` IS NOT NULL
          AND `t1`.`occurred_at` <= TIMESTAMP('2026-06-15T00:00:00+00:00')
      ) AS `t21`
    ) AS `t31`
  ) AS `t41`
  LEFT OUTER JOIN (
    SELECT
      `t5`.`customer_id`,
      `t5`.`points`,
      1781481600 - CAST(UNIX_SECONDS(TIMESTAMP_TRUNC(`t5`.`signed_up_at`, SECOND)) AS INT64) AS `age`
    FROM `customers` AS `t5`
    WHERE
      (
        `t5`.`signed_up_at` IS NULL
      )
      OR (
        `t5`.`signed_up_at` <= TIMESTAMP('2026-06-15T00:00:00+00:00')
      )
  ) AS `t48`
    ON `t41`.`customer_id` = `t48`.`customer_id`
), `t70` AS (
  SELECT
    `t44`.`product_id`,
    `t44`.`category`,
    `t44`.`price`,
    CAST(FLOOR(
      ieee_divide(
        CAST(SUM(`t44`.`price`) OVER (
          PARTITION BY `t44`.`category`, `t44`.`currency`
          ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS FLOAT64),
        NULLIF(
          CAST(COUNT(`t44`.`price`) OVER (
            PARTITION BY `t44`.`category`, `t44`.`currency`
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
          ) AS FLOAT64),
          0.0
        )
      )
    ) AS INT64) AS `usual_price`
  FROM (
    SELECT
      `t13`.`product_id`,
      `t13`.`category`,
      `t13`.`currency`,
      IF(
        `t13`.`category` IS NOT NULL,
        CAST(CAST(`t13`.`price` AS NUMERIC) * 10000 AS INT64),
        CAST(NULL AS INT64)
      ) AS `price`
    FROM `products` AS `t13`
  ) AS `t44`
), `t80` AS (
  SELECT
    `t74`.`customer_id`,
    `t49`.`message_id`,
    `t49`.`event`,
    `t49`.`second`,
    1781481600 - `t49`.`second` AS `age`
  FROM (
    SELECT
      `t7`.`message_id`,
      `t7`.`event`,
      CAST(UNIX_SECONDS(TIMESTAMP_TRUNC(`t7`.`occurred_at`, SECOND)) AS INT64) AS `second`
    FROM `message_events` AS `t7`
    WHERE
      `t7`.`occurred_at` <= TIMESTAMP('2026-06-15T00:00:00+00:00')
      AND NOT (
        COALESCE(INSTR(REPLACE(`t7`.`attributes`, ' ', ''), '"machine":true') > 0, FALSE)
      )
  ) AS `t49`
  INNER JOIN (
    SELECT DISTINCT
      `t4`.`customer_id`,
      `t4`.`message_id`
    FROM `messages_history` AS `t4`
    WHERE
      `t4`.`sent_at` <= TIMESTAMP('2026-06-15T00:00:00+00:00')
      AND NOT (
        COALESCE(
          REPLACE(
            REPLACE(
              REPLACE(
                REPLACE(REPLACE(REPLACE(LOWER(`t4`.`treatment`), ' ', ''), '-', ''), '_', ''),
                '.',
                ''
              ),
              ':',
              ''
            ),
            '/',
            ''
          ) IN (
            '0',
            'control',
            'controlgroup',
            'false',
            'globalholdout',
            'holdout',
            'no',
            'nocontact',
            'noemail',
            'nomail',
            'nomessage',
            'none',
            'nopush',
            'nosend',
            'nothing',
            'notreatment',
            'untreated'
          ),
          FALSE
        )
        OR COALESCE(
          (
            `t4`.`treatment` IS NULL
          )
          AND REPLACE(
            REPLACE(
              REPLACE(REPLACE(REPLACE(REPLACE(LOWER(`t4`.`variant`), ' ', ''), '-', ''), '_', ''), '.', ''),
              ':',
              ''
            ),
            '/',
            ''
          ) IN (
            'globalholdout',
            'holdout',
            'nocontact',
            'noemail',
            'nomail',
            'nomessage',
            'nopush',
            'nosend',
            'nothing',
            'notreatment',
            'untreated'
          ),
          FALSE
        )
      )
  ) AS `t74`
    ON `t49`.`message_id` = `t74`.`message_id`
), `t113` AS (
  SELECT
    `t109`.`customer_id`,
    `t109`.`order_id`,
    `t109`.`product_id`,
    `t109`.`category`,
    `t109`.`channel`,
    `t109`.`coupon`,
    `t109`.`second`,
    `t109`.`age`,
    `t109`.`price`,
    `t109`.`usual_price`,
    (
      `t109`.`quantity` > 0
    ) AND (
      `t109`.`unit_price` > 0
    ) AS `bought`,
    (
      `t109`.`quantity` < 0
    )
    OR (
      COALESCE(`t109`.`status`, 'placed') = 'returned'
    ) AS `returned`,
    CAST(`t109`.`quantity` AS NUMERIC) AS `quantity`,
    CAST(IF(
      (
        COALESCE(`t109`.`status`, 'placed') = 'returned'
      )
      AND LOGICAL_OR(`t109`.`quantity` > 0) OVER (
        PARTITION BY `t109`.`order_id`
        ORDER BY NULL ASC
        ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
      ),
      CAST(0 AS NUMERIC),
      CAST(CAST(`t109`.`quantity` AS NUMERIC) * `t109`.`unit_price` AS NUMERIC) - IF(
        `t109`.`quantity` < 0,
        -(
          COALESCE(`t109`.`discount`, 0)
        ),
        COALESCE(`t109`.`discount`, 0)
      )
    ) * IF(`t109`.`currency` = 'GBP', CAST(1 AS NUMERIC), `t109`.`rate`) AS NUMERIC) AS `amount`,
    CAST(CAST(CAST(`t109`.`quantity` AS NUMERIC) * `t109`.`unit_price` AS NUMERIC) * IF(`t109`.`currency` = 'GBP', CAST(1 AS NUMERIC), `t109`.`rate`) AS NUMERIC) AS `gross`,
    CAST(IF(
      `t109`.`quantity` < 0,
      -(
        COALESCE(`t109`.`discount`, 0)
      ),
      COALESCE(`t109`.`discount`, 0)
    ) * IF(`t109`.`currency` = 'GBP', CAST(1 AS NUMERIC), `t109`.`rate`) AS NUMERIC) AS `discount`
  FROM (
    SELECT
      *
    FROM (
      SELECT
        `t93`.`order_id`,
        `t93`.`product_id`,
        `t93`.`quantity`,
        `t93`.`unit_price`,
        `t93`.`discount`,
        `t93`.`customer_id`,
        `t93`.`ordered_at`,
        `t93`.`status`,
        `t93`.`currency`,
        `t93`.`channel`,
        `t93`.`coupon`,
        `t93`.`second`,
        `t93`.`age`,
        `t93`.`category`,
        `t93`.`price`,
        `t93`.`usual_price`,
        `t33`.`rate_date`,
        `t33`.`rate_from`,
        `t33`.`rate`
      FROM (
        SELECT
          `t87`.*
          EXCEPT (`product_id_right`)
        FROM (
          SELECT
            `t27`.`order_id`,
            `t27`.`product_id`,
            `t27`.`quantity`,
            `t27`.`unit_price`,
            `t27`.`discount`,
            `t50`.`customer_id`,
            `t50`.`ordered_at`,
            `t50`.`status`,
            `t50`.`currency`,
            `t50`.`channel`,
            `t50`.`coupon`,
            `t50`.`second`,
            `t50`.`age`,
            `t79`.`product_id` AS `product_id_right`,
            `t79`.`category`,
            `t79`.`price`,
            `t79`.`usual_price`
          FROM (
            SELECT
              `t14`.`order_id`,
              `t14`.`product_id`,
              `t14`.`quantity`,
              `t14`.`unit_price`,
              `t14`.`discount`
            FROM `order_lines` AS `t14`
          ) AS `t27`
          INNER JOIN (
            SELECT
              `t9`.`customer_id`,
              `t9`.`order_id`,
              `t9`.`ordered_at`,
              `t9`.`status`,
              `t9`.`currency`,
              `t9`.`channel`,
              CAST(IF(COALESCE(`t9`.`coupon_code` IS NOT NULL, FALSE), 1, 0) AS INT64) AS `coupon`,
              CAST(UNIX_SECONDS(TIMESTAMP_TRUNC(`t9`.`ordered_at`, SECOND)) AS INT64) AS `second`,
              1781481600 - CAST(UNIX_SECONDS(TIMESTAMP_TRUNC(`t9`.`ordered_at`, SECOND)) AS INT64) AS `age`
            FROM `orders` AS `t9`
            WHERE
              `t9`.`customer_id` IS NOT NULL
              AND `t9`.`ordered_at` <= TIMESTAMP('2026-06-15T00:00:00+00:00')
          ) AS `t50`
            ON `t27`.`order_id` = `t50`.`order_id`
          LEFT OUTER JOIN `t70` AS `t79`
            ON `t27`.`product_id` = `t79`.`product_id`
        ) AS `t87`
      ) AS `t93`
      LEFT OUTER JOIN (
        SELECT
          `t11`.`date` AS `rate_date`,
          `t11`.`from` AS `rate_from`,
          CAST(`t11`.`rate` AS NUMERIC) AS `rate`
        FROM `exchange_rates` AS `t11`
        WHERE
          `t11`.`to` = 'GBP'
      ) AS `t33`
        ON `t93`.`currency` = `t33`.`rate_from`
        AND DATE(`t93`.`ordered_at`) = `t33`.`rate_date`
    ) AS `t100`
    WHERE
      (
        `t100`.`quantity` < 0
      )
      OR NOT (
        COALESCE(`t100`.`status`, 'placed') = 'cancelled'
      )
  ) AS `t109`
), `t122` AS (
  SELECT
    `t115`.`customer_id`,
    `t115`.`order_id`,
    `t115`.`second`,
    `t115`.`age`,
    `t115`.`channel`,
    `t115`.`coupon`,
    SUM(`t115`.`amount`) AS `amount`,
    SUM(`t115`.`quantity`) AS `quantity`,
    MAX(CAST(IF(COALESCE(`t115`.`discount` > 0, FALSE), 1, 0) AS INT64)) AS `discounted`
  FROM (
    SELECT
      *
    FROM `t113` AS `t114`
    WHERE
      `t114`.`bought`
  ) AS `t115`
  GROUP BY
    1,
    2,
    3,
    4,
    5,
    6
)
SELECT
  `t146`.`customer_id`,
  TIMESTAMP('2026-06-15T00:00:00+00:00') AS `as_of`,
  `t146`.`days_since_last_order`,
  `t146`.`days_since_first_order`,
  `t146`.`orders_7d`,
  `t146`.`orders_14d`,
  `t146`.`orders_30d`,
  `t146`.`orders_60d`,
  `t146`.`orders_90d`,
  `t146`.`orders_180d`,
  `t146`.`orders_365d`,
  `t146`.`orders_total`,
  `t146`.`purchase_days`,
  `t146`.`mean_gap_days`,
  `t146`.`gap_spread_days`,
  `t146`.`longest_gap_days`,
  `t146`.`last_gap_days`,
  `t146`.`days_since_second_last`,
  `t146`.`days_since_third_last`,
  ieee_divide(`t146`.`days_since_last_order`, NULLIF(`t146`.`mean_gap_days`, 0.0)) AS `overdue_ratio`,
  ieee_divide(`t146`.`orders_30d` * 3, NULLIF(`t146`.`orders_90d`, 0.0)) AS `order_trend`,
  ieee_divide(`t146`.`orders_90d` * 2, NULLIF(`t146`.`orders_180d`, 0.0)) AS `order_trend_180d`,
  ieee_divide(
    `t146`.`purchase_days`,
    NULLIF(GREATEST(`t146`.`days_since_first_order`, 30.0), 0.0)
  ) AS `order_rate`,
  ieee_divide(`t146`.`days_since_last_order`, NULLIF(`t146`.`days_since_first_order`, 0.0)) AS `recency_share`,
  `t146`.`revenue_30d`,
  `t146`.`revenue_90d`,
  `t146`.`revenue_180d`,
  `t146`.`revenue_365d`,
  `t146`.`revenue_total`,
  `t146`.`average_order_value`,
  `t146`.`largest_order_value`,
  `t146`.`last_order_value`,
  ieee_divide(`t146`.`revenue_30d` * 3, NULLIF(`t146`.`revenue_90d`, 0.0)) AS `revenue_trend`,
  ieee_divide(`t146`.`last_order_value`, NULLIF(`t146`.`average_order_value`, 0.0)) AS `last_value_ratio`,
  `t146`.`items_per_order`,
  `t146`.`lines_per_order`,
  `t146`.`distinct_products`,
  `t146`.`distinct_categories`,
  `t146`.`repeat_share`,
  `t146`.`top_category_bought_share`,
  `t146`.`returned_lines`,
  `t146`.`returned_share`,
  `t146`.`days_since_last_return`,
  `t146`.`discount_share`,
  `t146`.`discounted_line_share`,
  `t146`.`discounted_order_share`,
  `t146`.`coupon_order_share`,
  `t146`.`coupon_orders_365d`,
  `t146`.`coupons_open`,
  `t146`.`coupon_use_share`,
  `t146`.`coupon_failures_90d`,
  `t146`.`bought_price_level`,
  `t146`.`viewed_price_level_90d`,
  ieee_divide(`t146`.`viewed_price_level_90d`, NULLIF(`t146`.`bought_price_level`, 0.0)) AS `price_reach`,
  `t146`.`views_7d`,
  `t146`.`views_30d`,
  `t146`.`views_90d`,
  `t146`.`carts_7d`,
  `t146`.`carts_30d`,
  `t146`.`carts_90d`,
  `t146`.`cart_removals_30d`,
  `t146`.`checkouts_30d`,
  `t146`.`sessions_30d`,
  `t146`.`sessions_90d`,
  `t146`.`session_days_90d`,
  `t146`.`events_per_session_90d`,
  `t146`.`minutes_per_session_90d`,
  `t146`.`single_event_share_90d`,
  `t146`.`days_since_last_event`,
  `t146`.`days_since_last_cart`,
  `t146`.`view_to_cart_90d`,
  `t146`.`cart_to_checkout_90d`,
  `t146`.`checkout_to_purchase_90d`,
  `t146`.`cart_abandonment_90d`,
  CAST(IF(
    `t146`.`carts_7d` IS NULL,
    CAST(NULL AS INT64),
    CAST(IF(
      COALESCE(
        (
          `t146`.`days_since_last_cart` <= 7
        )
        AND (
          (
            `t146`.`days_since_last_order` IS NULL
          )
          OR (
            `t146`.`days_since_last_order` > `t146`.`days_since_last_cart`
          )
        ),
        FALSE
      ),
      1,
      0
    ) AS INT64)
  ) AS FLOAT64) AS `open_cart`,
  ieee_divide(`t146`.`views_30d` * 3, NULLIF(`t146`.`views_90d`, 0.0)) AS `view_trend`,
  ieee_divide(`t146`.`sessions_30d` * 3, NULLIF(`t146`.`sessions_90d`, 0.0)) AS `session_trend`,
  `t146`.`searches_30d`,
  `t146`.`searches_90d`,
  `t146`.`empty_searches_90d`,
  `t146`.`distinct_queries_90d`,
  `t146`.`days_since_last_search`,
  `t146`.`search_session_share_90d`,
  `t146`.`distinct_products_viewed_90d`,
  `t146`.`distinct_categories_viewed_90d`,
  `t146`.`top_category_viewed_share_90d`,
  `t146`.`views_per_product_90d`,
  `t146`.`web_event_share_90d`,
  `t146`.`app_event_share_90d`,
  `t146`.`store_event_share_90d`,
  `t146`.`web_order_share`,
  `t146`.`app_order_share`,
  `t146`.`store_order_share`,
  `t146`.`ios_devices`,
  `t146`.`android_devices`,
  `t146`.`web_devices`,
  `t146`.`push_devices`,
  `t146`.`night_share_90d`,
  `t146`.`morning_share_90d`,
  `t146`.`afternoon_share_90d`,
  `t146`.`evening_share_90d`,
  `t146`.`weekend_event_share_90d`,
  `t146`.`weekend_share`,
  `t146`.`messages_7d`,
  `t146`.`messages_30d`,
  `t146`.`messages_90d`,
  `t146`.`emails_30d`,
  `t146`.`pushes_30d`,
  `t146`.`days_since_last_message`,
  `t146`.`opens_30d`,
  `t146`.`clicks_30d`,
  `t146`.`clicks_90d`,
  `t146`.`click_rate`,
  `t146`.`days_since_last_click`,
  `t146`.`messages_since_last_click`,
  `t146`.`messages_unanswered`,
  `t146`.`unsubscribed_90d`,
  `t146`.`complaints_90d`,
  ieee_divide(`t146`.`messages_30d` * 3, NULLIF(`t146`.`messages_90d`, 0.0)) AS `message_trend`,
  ieee_divide(`t146`.`clicks_30d` * 3, NULLIF(`t146`.`clicks_90d`, 0.0)) AS `click_trend`,
  `t146`.`days_since_signup`,
  `t146`.`days_since_first_event`,
  IF(
    GREATEST(
      COALESCE(`t146`.`days_since_signup`, -1.0),
      COALESCE(`t146`.`days_since_first_order`, -1.0),
      COALESCE(`t146`.`days_since_first_event`, -1.0)
    ) < 0,
    CAST(NULL AS FLOAT64),
    GREATEST(
      COALESCE(`t146`.`days_since_signup`, -1.0),
      COALESCE(`t146`.`days_since_first_order`, -1.0),
      COALESCE(`t146`.`days_since_first_event`, -1.0)
    )
  ) AS `days_known`,
  `t146`.`points`,
  `t146`.`days_to_holiday`,
  `t146`.`days_to_festival`,
  `t146`.`holiday_order_share`,
  `t146`.`festival_order_share`,
  `t146`.`weather`,
  `t146`.`temperature`,
  `t146`.`precipitation`,
  CASE
    WHEN `t146`.`days_since_last_order` IS NULL
    THEN 'prospect'
    WHEN (
      `t146`.`purchase_days` = 1
    ) AND (
      `t146`.`days_since_last_order` <= 30.0
    )
    THEN 'new'
    WHEN `t146`.`days_since_last_order` <= IF(
      `t146`.`purchase_days` >= 3,
      IF(
        IF(
          (
            `t146`.`mean_gap_days` * 2.0
          ) IS NULL,
          `t146`.`mean_gap_days` * 2.0,
          LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
        ) IS NULL,
        IF(
          (
            `t146`.`mean_gap_days` * 2.0
          ) IS NULL,
          `t146`.`mean_gap_days` * 2.0,
          LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
        ),
        GREATEST(
          30.0,
          IF(
            (
              `t146`.`mean_gap_days` * 2.0
            ) IS NULL,
            `t146`.`mean_gap_days` * 2.0,
            LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
          )
        )
      ),
      60.0
    )
    THEN 'active'
    WHEN `t146`.`days_since_last_order` <= (
      IF(
        `t146`.`purchase_days` >= 3,
        IF(
          IF(
            (
              `t146`.`mean_gap_days` * 2.0
            ) IS NULL,
            `t146`.`mean_gap_days` * 2.0,
            LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
          ) IS NULL,
          IF(
            (
              `t146`.`mean_gap_days` * 2.0
            ) IS NULL,
            `t146`.`mean_gap_days` * 2.0,
            LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
          ),
          GREATEST(
            30.0,
            IF(
              (
                `t146`.`mean_gap_days` * 2.0
              ) IS NULL,
              `t146`.`mean_gap_days` * 2.0,
              LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
            )
          )
        ),
        60.0
      ) * 3.0
    )
    THEN 'lapsing'
    ELSE 'lost'
  END AS `lifecycle`
FROM (
  SELECT
    `t75`.`customer_id`,
    `t135`.`days_since_last_order`,
    `t135`.`days_since_first_order`,
    COALESCE(`t135`.`orders_7d`, 0.0) AS `orders_7d`,
    COALESCE(`t135`.`orders_14d`, 0.0) AS `orders_14d`,
    COALESCE(`t135`.`orders_30d`, 0.0) AS `orders_30d`,
    COALESCE(`t135`.`orders_60d`, 0.0) AS `orders_60d`,
    COALESCE(`t135`.`orders_90d`, 0.0) AS `orders_90d`,
    COALESCE(`t135`.`orders_180d`, 0.0) AS `orders_180d`,
    COALESCE(`t135`.`orders_365d`, 0.0) AS `orders_365d`,
    COALESCE(`t135`.`orders_total`, 0.0) AS `orders_total`,
    `t135`.`average_order_value`,
    `t135`.`largest_order_value`,
    `t135`.`last_order_value`,
    `t135`.`items_per_order`,
    `t135`.`discounted_order_share`,
    `t135`.`coupon_order_share`,
    COALESCE(`t135`.`coupon_orders_365d`, 0.0) AS `coupon_orders_365d`,
    `t135`.`web_order_share`,
    `t135`.`app_order_share`,
    `t135`.`store_order_share`,
    COALESCE(`t142`.`purchase_days`, 0.0) AS `purchase_days`,
    `t142`.`mean_gap_days`,
    `t142`.`gap_spread_days`,
    `t142`.`longest_gap_days`,
    `t142`.`last_gap_days`,
    `t142`.`days_since_second_last`,
    `t142`.`days_since_third_last`,
    COALESCE(`t121`.`revenue_30d`, 0.0) AS `revenue_30d`,
    COALESCE(`t121`.`revenue_90d`, 0.0) AS `revenue_90d`,
    COALESCE(`t121`.`revenue_180d`, 0.0) AS `revenue_180d`,
    COALESCE(`t121`.`revenue_365d`, 0.0) AS `revenue_365d`,
    COALESCE(`t121`.`revenue_total`, 0.0) AS `revenue_total`,
    `t121`.`lines_per_order`,
    COALESCE(`t121`.`distinct_products`, 0.0) AS `distinct_products`,
    `t121`.`repeat_share`,
    COALESCE(`t121`.`returned_lines`, 0.0) AS `returned_lines`,
    `t121`.`returned_share`,
    `t121`.`days_since_last_return`,
    `t121`.`discount_share`,
    `t121`.`discounted_line_share`,
    `t121`.`bought_price_level`,
    COALESCE(`t125`.`distinct_categories`, 0.0) AS `distinct_categories`,
    `t125`.`top_category_bought_share`,
    COALESCE(`t63`.`coupons_open`, 0.0) AS `coupons_open`,
    `t63`.`coupon_use_share`,
    COALESCE(`t71`.`coupon_failures_90d`, 0.0) AS `coupon_failures_90d`,
    COALESCE(`t71`.`views_7d`, 0.0) AS `views_7d`,
    COALESCE(`t71`.`views_30d`, 0.0) AS `views_30d`,
    COALESCE(`t71`.`views_90d`, 0.0) AS `views_90d`,
    COALESCE(`t71`.`carts_7d`, 0.0) AS `carts_7d`,
    COALESCE(`t71`.`carts_30d`, 0.0) AS `carts_30d`,
    COALESCE(`t71`.`carts_90d`, 0.0) AS `carts_90d`,
    COALESCE(`t71`.`cart_removals_30d`, 0.0) AS `cart_removals_30d`,
    COALESCE(`t71`.`checkouts_30d`, 0.0) AS `checkouts_30d`,
    `t71`.`days_since_last_event`,
    `t71`.`days_since_last_cart`,
    COALESCE(`t71`.`searches_30d`, 0.0) AS `searches_30d`,
    COALESCE(`t71`.`searches_90d`, 0.0) AS `searches_90d`,
    COALESCE(`t71`.`empty_searches_90d`, 0.0) AS `empty_searches_90d`,
    COALESCE(`t71`.`distinct_queries_90d`, 0.0) AS `distinct_queries_90d`,
    `t71`.`days_since_last_search`,
    `t71`.`web_event_share_90d`,
    `t71`.`app_event_share_90d`,
    `t71`.`store_event_share_90d`,
    `t71`.`days_since_first_event`,
    `t108`.`viewed_price_level_90d`,
    COALESCE(`t108`.`distinct_products_viewed_90d`, 0.0) AS `distinct_products_viewed_90d`,
    COALESCE(`t108`.`distinct_categories_viewed_90d`, 0.0) AS `distinct_categories_viewed_90d`,
    `t108`.`top_category_viewed_share_90d`,
    `t108`.`views_per_product_90d`,
    COALESCE(`t91`.`sessions_30d`, 0.0) AS `sessions_30d`,
    COALESCE(`t91`.`sessions_90d`, 0.0) AS `sessions_90d`,
    COALESCE(`t91`.`session_days_90d`, 0.0) AS `session_days_90d`,
    `t91`.`events_per_session_90d`,
    `t91`.`minutes_per_session_90d`,
    `t91`.`single_event_share_90d`,
    `t91`.`view_to_cart_90d`,
    `t91`.`cart_to_checkout_90d`,
    `t91`.`checkout_to_purchase_90d`,
    `t91`.`cart_abandonment_90d`,
    `t91`.`search_session_share_90d`,
    COALESCE(`t57`.`ios_devices`, 0.0) AS `ios_devices`,
    COALESCE(`t57`.`android_devices`, 0.0) AS `android_devices`,
    COALESCE(`t57`.`web_devices`, 0.0) AS `web_devices`,
    COALESCE(`t57`.`push_devices`, 0.0) AS `push_devices`,
    `t111`.`night_share_90d`,
    `t111`.`morning_share_90d`,
    `t111`.`afternoon_share_90d`,
    `t111`.`evening_share_90d`,
    `t111`.`weekend_event_share_90d`,
    `t145`.`weekend_share`,
    `t145`.`holiday_order_share`,
    `t145`.`festival_order_share`,
    COALESCE(`t119`.`messages_7d`, 0.0) AS `messages_7d`,
    COALESCE(`t119`.`messages_30d`, 0.0) AS `messages_30d`,
    COALESCE(`t119`.`messages_90d`, 0.0) AS `messages_90d`,
    COALESCE(`t119`.`emails_30d`, 0.0) AS `emails_30d`,
    COALESCE(`t119`.`pushes_30d`, 0.0) AS `pushes_30d`,
    `t119`.`days_since_last_message`,
    `t119`.`click_rate`,
    COALESCE(`t119`.`messages_since_last_click`, 0.0) AS `messages_since_last_click`,
    COALESCE(`t119`.`messages_unanswered`, 0.0) AS `messages_unanswered`,
    COALESCE(`t98`.`opens_30d`, 0.0) AS `opens_30d`,
    COALESCE(`t98`.`clicks_30d`, 0.0) AS `clicks_30d`,
    COALESCE(`t98`.`clicks_90d`, 0.0) AS `clicks_90d`,
    `t98`.`days_since_last_click`,
    COALESCE(`t98`.`unsubscribed_90d`, 0.0) AS `unsubscribed_90d`,
    COALESCE(`t98`.`complaints_90d`, 0.0) AS `complaints_90d`,
    `t85`.`days_since_signup`,
    `t85`.`points`,
    `t104`.`days_to_holiday`,
    `t104`.`days_to_festival`,
    `t104`.`weather`,
    `t104`.`temperature`,
    `t104`.`precipitation`
  FROM (
    SELECT
      `t61`.`customer_id`
    FROM `t59` AS `t61`
  ) AS `t75`
  LEFT OUTER JOIN (
    SELECT
      `t128`.`customer_id` AS `orders_of`,
      ieee_divide(CAST(MIN(`t128`.`age`) AS FLOAT64), NULLIF(CAST(86400 AS FLOAT64), 0.0)) AS `days_since_last_order`,
      ieee_divide(CAST(MAX(`t128`.`age`) AS FLOAT64), NULLIF(CAST(86400 AS FLOAT64), 0.0)) AS `days_since_first_order`,
      CAST(COUNTIF(`t128`.`age` < 604800) AS FLOAT64) AS `orders_7d`,
      CAST(COUNTIF(`t128`.`age` < 1209600) AS FLOAT64) AS `orders_14d`,
      CAST(COUNTIF(`t128`.`age` < 2592000) AS FLOAT64) AS `orders_30d`,
      CAST(COUNTIF(`t128`.`age` < 5184000) AS FLOAT64) AS `orders_60d`,
      CAST(COUNTIF(`t128`.`age` < 7776000) AS FLOAT64) AS `orders_90d`,
      CAST(COUNTIF(`t128`.`age` < 15552000) AS FLOAT64) AS `orders_180d`,
      CAST(COUNTIF(`t128`.`age` < 31536000) AS FLOAT64) AS `orders_365d`,
      CAST(COUNT(*) AS FLOAT64) AS `orders_total`,
      ieee_divide(
        CAST(SUM(`t128`.`amount`) AS FLOAT64),
        NULLIF(CAST(COUNT(`t128`.`amount`) AS FLOAT64), 0.0)
      ) AS `average_order_value`,
      CAST(MAX(`t128`.`amount`) AS FLOAT64) AS `largest_order_value`,
      CAST(MAX(IF(`t128`.`latest`, `t128`.`amount`, NULL)) AS FLOAT64) AS `last_order_value`,
      ieee_divide(CAST(SUM(`t128`.`quantity`) AS FLOAT64), NULLIF(CAST(COUNT(*) AS FLOAT64), 0.0)) AS `items_per_order`,
      ieee_divide(CAST(SUM(`t128`.`discounted`) AS FLOAT64), NULLIF(CAST(COUNT(*) AS FLOAT64), 0.0)) AS `discounted_order_share`,
      ieee_divide(CAST(SUM(`t128`.`coupon`) AS FLOAT64), NULLIF(CAST(COUNT(*) AS FLOAT64), 0.0)) AS `coupon_order_share`,
      CAST(SUM(IF(`t128`.`age` < 31536000, `t128`.`coupon`, NULL)) AS FLOAT64) AS `coupon_orders_365d`,
      ieee_divide(
        CAST(COUNTIF((
          `t128`.`channel` = 'web'
        ) AND (
          `t128`.`channel` IS NOT NULL
        )) AS FLOAT64),
        NULLIF(CAST(COUNTIF(`t128`.`channel` IS NOT NULL) AS FLOAT64), 0.0)
      ) AS `web_order_share`,
      ieee_divide(
        CAST(COUNTIF((
          `t128`.`channel` = 'app'
        ) AND (
          `t128`.`channel` IS NOT NULL
        )) AS FLOAT64),
        NULLIF(CAST(COUNTIF(`t128`.`channel` IS NOT NULL) AS FLOAT64), 0.0)
      ) AS `app_order_share`,
      ieee_divide(
        CAST(COUNTIF((
          `t128`.`channel` = 'store'
        ) AND (
          `t128`.`channel` IS NOT NULL
        )) AS FLOAT64),
        NULLIF(CAST(COUNTIF(`t128`.`channel` IS NOT NULL) AS FLOAT64), 0.0)
      ) AS `store_order_share`
    FROM (
      SELECT
        `t123`.`customer_id`,
        `t123`.`order_id`,
        `t123`.`second`,
        `t123`.`age`,
        `t123`.`channel`,
        `t123`.`coupon`,
        `t123`.`amount`,
        `t123`.`quantity`,
        `t123`.`discounted`,
        `t123`.`age` = MIN(`t123`.`age`) OVER (
          PARTITION BY `t123`.`customer_id`
          ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
        ) AS `latest`
      FROM `t122` AS `t123`
    ) AS `t128`
    GROUP BY
      1
  ) AS `t135`
    ON `t75`.`customer_id` = `t135`.`orders_of`
  LEFT OUTER JOIN (
    SELECT
      `t136`.`customer_id` AS `visits_of`,
      CAST(COUNT(*) AS FLOAT64) AS `purchase_days`,
      ieee_divide(
        CAST(MAX(`t136`.`day_age`) - MIN(`t136`.`day_age`) AS FLOAT64),
        NULLIF(CAST(COUNT(*) - 1 AS FLOAT64), 0.0)
      ) AS `mean_gap_days`,
      SQRT(
        ieee_divide(
          CAST((
            COUNT(`t136`.`gap`) * SUM(`t136`.`gap` * `t136`.`gap`)
          ) - (
            SUM(`t136`.`gap`) * SUM(`t136`.`gap`)
          ) AS FLOAT64),
          NULLIF(CAST(COUNT(`t136`.`gap`) * (
            COUNT(`t136`.`gap`) - 1
          ) AS FLOAT64), 0.0)
        )
      ) AS `gap_spread_days`,
      CAST(MAX(`t136`.`gap`) AS FLOAT64) AS `longest_gap_days`,
      CAST(MAX(IF(`t136`.`place` = 0, `t136`.`gap`, NULL)) AS FLOAT64) AS `last_gap_days`,
      CAST(MAX(IF(`t136`.`place` = 1, `t136`.`day_age`, NULL)) AS FLOAT64) AS `days_since_second_last`,
      CAST(MAX(IF(`t136`.`place` = 2, `t136`.`day_age`, NULL)) AS FLOAT64) AS `days_since_third_last`
    FROM (
      SELECT
        `t131`.`customer_id`,
        `t131`.`day_age`,
        `t131`.`gap`,
        ROW_NUMBER() OVER (PARTITION BY `t131`.`customer_id` ORDER BY `t131`.`day_age` ASC) - 1 AS `place`
      FROM (
        SELECT
          `t129`.`customer_id`,
          `t129`.`day_age`,
          LEAD(`t129`.`day_age`) OVER (PARTITION BY `t129`.`customer_id` ORDER BY `t129`.`day_age` ASC) - `t129`.`day_age` AS `gap`
        FROM (
          SELECT DISTINCT
            `t123`.`customer_id`,
            CAST(FLOOR(ieee_divide(CAST(`t123`.`age` AS FLOAT64), NULLIF(CAST(86400 AS FLOAT64), 0.0))) AS INT64) AS `day_age`
          FROM `t122` AS `t123`
        ) AS `t129`
      ) AS `t131`
    ) AS `t136`
    GROUP BY
      1
  ) AS `t142`
    ON `t75`.`customer_id` = `t142`.`visits_of`
  LEFT OUTER JOIN (
    SELECT
      `t114`.`customer_id` AS `lines_of`,
      CAST(SUM(IF(`t114`.`age` < 2592000, `t114`.`amount`, NULL)) AS FLOAT64) AS `revenue_30d`,
      CAST(SUM(IF(`t114`.`age` < 7776000, `t114`.`amount`, NULL)) AS FLOAT64) AS `revenue_90d`,
      CAST(SUM(IF(`t114`.`age` < 15552000, `t114`.`amount`, NULL)) AS FLOAT64) AS `revenue_180d`,
      CAST(SUM(IF(`t114`.`age` < 31536000, `t114`.`amount`, NULL)) AS FLOAT64) AS `revenue_365d`,
      CAST(SUM(`t114`.`amount`) AS FLOAT64) AS `revenue_total`,
      ieee_divide(
        CAST(COUNTIF(`t114`.`bought`) AS FLOAT64),
        NULLIF(CAST(COUNT(DISTINCT IF(`t114`.`bought`, `t114`.`order_id`, NULL)) AS FLOAT64), 0.0)
      ) AS `lines_per_order`,
      CAST(COUNT(DISTINCT IF(`t114`.`bought`, `t114`.`product_id`, NULL)) AS FLOAT64) AS `distinct_products`,
      ieee_divide(
        CAST(COUNTIF(`t114`.`bought`) - COUNT(DISTINCT IF(`t114`.`bought`, `t114`.`product_id`, NULL)) AS FLOAT64),
        NULLIF(CAST(COUNTIF(`t114`.`bought`) AS FLOAT64), 0.0)
      ) AS `repeat_share`,
      CAST(COUNTIF(`t114`.`returned`) AS FLOAT64) AS `returned_lines`,
      ieee_divide(
        CAST(COUNTIF(`t114`.`returned`) AS FLOAT64),
        NULLIF(CAST(COUNTIF(`t114`.`bought`) AS FLOAT64), 0.0)
      ) AS `returned_share`,
      ieee_divide(
        CAST(MIN(IF(`t114`.`returned`, `t114`.`age`, NULL)) AS FLOAT64),
        NULLIF(CAST(86400 AS FLOAT64), 0.0)
      ) AS `days_since_last_return`,
      ieee_divide(
        CAST(SUM(IF(`t114`.`bought`, `t114`.`discount`, NULL)) AS FLOAT64),
        NULLIF(CAST(SUM(IF(`t114`.`bought`, `t114`.`gross`, NULL)) AS FLOAT64), 0.0)
      ) AS `discount_share`,
      ieee_divide(
        CAST(COUNTIF((
          `t114`.`discount` > 0
        ) AND `t114`.`bought`) AS FLOAT64),
        NULLIF(CAST(COUNTIF(`t114`.`bought`) AS FLOAT64), 0.0)
      ) AS `discounted_line_share`,
      ieee_divide(
        CAST(SUM(IF(`t114`.`bought`, `t114`.`price`, NULL)) AS FLOAT64),
        NULLIF(CAST(SUM(IF(`t114`.`bought`, `t114`.`usual_price`, NULL)) AS FLOAT64), 0.0)
      ) AS `bought_price_level`
    FROM `t113` AS `t114`
    GROUP BY
      1
  ) AS `t121`
    ON `t75`.`customer_id` = `t121`.`lines_of`
  LEFT OUTER JOIN (
    SELECT
      `t117`.`customer_id` AS `bought_categories_of`,
      CAST(COUNT(*) AS FLOAT64) AS `distinct_categories`,
      ieee_divide(
        CAST(MAX(`t117`.`lines`) AS FLOAT64),
        NULLIF(CAST(SUM(`t117`.`lines`) AS FLOAT64), 0.0)
      ) AS `top_category_bought_share`
    FROM (
      SELECT
        `t116`.`customer_id`,
        `t116`.`category`,
        COUNT(*) AS `lines`
      FROM (
        SELECT
          *
        FROM `t113` AS `t114`
        WHERE
          `t114`.`bought` AND `t114`.`category` IS NOT NULL
      ) AS `t116`
      GROUP BY
        1,
        2
    ) AS `t117`
    GROUP BY
      1
  ) AS `t125`
    ON `t75`.`customer_id` = `t125`.`bought_categories_of`
  LEFT OUTER JOIN (
    SELECT
      `t52`.`customer_id` AS `coupons_of`,
      CAST(SUM(`t52`.`open`) AS FLOAT64) AS `coupons_open`,
      ieee_divide(CAST(SUM(`t52`.`used`) AS FLOAT64), NULLIF(CAST(COUNT(*) AS FLOAT64), 0.0)) AS `coupon_use_share`
    FROM (
      SELECT
        `t0`.`issued_to` AS `customer_id`,
        CAST(IF(COALESCE(`t0`.`redeemed_order_id` IS NOT NULL, FALSE), 1, 0) AS INT64) AS `used`,
        CAST(IF(
          COALESCE(
            NOT (
              `t0`.`redeemed_order_id` IS NOT NULL
            )
            AND (
              (
                `t0`.`expires_at` IS NULL
              )
              OR (
                `t0`.`expires_at` > TIMESTAMP('2026-06-15T00:00:00+00:00')
              )
            ),
            FALSE
          ),
          1,
          0
        ) AS INT64) AS `open`
      FROM `coupons` AS `t0`
      WHERE
        `t0`.`issued_to` IS NOT NULL
    ) AS `t52`
    GROUP BY
      1
  ) AS `t63`
    ON `t75`.`customer_id` = `t63`.`coupons_of`
  LEFT OUTER JOIN (
    SELECT
      `t38`.`customer_id` AS `events_of`,
      CAST(COUNTIF((
        `t38`.`event_name` = 'coupon_failed'
      ) AND (
        `t38`.`age` < 7776000
      )) AS FLOAT64) AS `coupon_failures_90d`,
      CAST(COUNTIF((
        `t38`.`event_name` = 'view_item'
      ) AND (
        `t38`.`age` < 604800
      )) AS FLOAT64) AS `views_7d`,
      CAST(COUNTIF((
        `t38`.`event_name` = 'view_item'
      ) AND (
        `t38`.`age` < 2592000
      )) AS FLOAT64) AS `views_30d`,
      CAST(COUNTIF((
        `t38`.`event_name` = 'view_item'
      ) AND (
        `t38`.`age` < 7776000
      )) AS FLOAT64) AS `views_90d`,
      CAST(COUNTIF((
        `t38`.`event_name` = 'add_to_cart'
      ) AND (
        `t38`.`age` < 604800
      )) AS FLOAT64) AS `carts_7d`,
      CAST(COUNTIF((
        `t38`.`event_name` = 'add_to_cart'
      ) AND (
        `t38`.`age` < 2592000
      )) AS FLOAT64) AS `carts_30d`,
      CAST(COUNTIF((
        `t38`.`event_name` = 'add_to_cart'
      ) AND (
        `t38`.`age` < 7776000
      )) AS FLOAT64) AS `carts_90d`,
      CAST(COUNTIF((
        `t38`.`event_name` = 'remove_from_cart'
      ) AND (
        `t38`.`age` < 2592000
      )) AS FLOAT64) AS `cart_removals_30d`,
      CAST(COUNTIF((
        `t38`.`event_name` = 'begin_checkout'
      ) AND (
        `t38`.`age` < 2592000
      )) AS FLOAT64) AS `checkouts_30d`,
      ieee_divide(CAST(MIN(`t38`.`age`) AS FLOAT64), NULLIF(CAST(86400 AS FLOAT64), 0.0)) AS `days_since_last_event`,
      ieee_divide(
        CAST(MIN(IF(`t38`.`event_name` = 'add_to_cart', `t38`.`age`, NULL)) AS FLOAT64),
        NULLIF(CAST(86400 AS FLOAT64), 0.0)
      ) AS `days_since_last_cart`,
      CAST(COUNTIF((
        `t38`.`event_name` = 'search'
      ) AND (
        `t38`.`age` < 2592000
      )) AS FLOAT64) AS `searches_30d`,
      CAST(COUNTIF((
        `t38`.`event_name` = 'search'
      ) AND (
        `t38`.`age` < 7776000
      )) AS FLOAT64) AS `searches_90d`,
      CAST(COUNTIF(
        (
          `t38`.`event_name` = 'search'
        )
        AND (
          `t38`.`results_count` = 0
        )
        AND (
          `t38`.`age` < 7776000
        )
      ) AS FLOAT64) AS `empty_searches_90d`,
      CAST(COUNT(
        DISTINCT IF(
          (
            `t38`.`event_name` = 'search'
          ) AND (
            `t38`.`age` < 7776000
          ),
          `t38`.`query`,
          NULL
        )
      ) AS FLOAT64) AS `distinct_queries_90d`,
      ieee_divide(
        CAST(MIN(IF(`t38`.`event_name` = 'search', `t38`.`age`, NULL)) AS FLOAT64),
        NULLIF(CAST(86400 AS FLOAT64), 0.0)
      ) AS `days_since_last_search`,
      ieee_divide(
        CAST(COUNTIF(
          (
            `t38`.`channel` = 'web'
          )
          AND (
            (
              `t38`.`channel` IS NOT NULL
            ) AND (
              `t38`.`age` < 7776000
            )
          )
        ) AS FLOAT64),
        NULLIF(
          CAST(COUNTIF((
            `t38`.`channel` IS NOT NULL
          ) AND (
            `t38`.`age` < 7776000
          )) AS FLOAT64),
          0.0
        )
      ) AS `web_event_share_90d`,
      ieee_divide(
        CAST(COUNTIF(
          (
            `t38`.`channel` = 'app'
          )
          AND (
            (
              `t38`.`channel` IS NOT NULL
            ) AND (
              `t38`.`age` < 7776000
            )
          )
        ) AS FLOAT64),
        NULLIF(
          CAST(COUNTIF((
            `t38`.`channel` IS NOT NULL
          ) AND (
            `t38`.`age` < 7776000
          )) AS FLOAT64),
          0.0
        )
      ) AS `app_event_share_90d`,
      ieee_divide(
        CAST(COUNTIF(
          (
            `t38`.`channel` = 'store'
          )
          AND (
            (
              `t38`.`channel` IS NOT NULL
            ) AND (
              `t38`.`age` < 7776000
            )
          )
        ) AS FLOAT64),
        NULLIF(
          CAST(COUNTIF((
            `t38`.`channel` IS NOT NULL
          ) AND (
            `t38`.`age` < 7776000
          )) AS FLOAT64),
          0.0
        )
      ) AS `store_event_share_90d`,
      ieee_divide(CAST(MAX(`t38`.`age`) AS FLOAT64), NULLIF(CAST(86400 AS FLOAT64), 0.0)) AS `days_since_first_event`
    FROM (
      SELECT
        `t1`.`customer_id`,
        `t1`.`event_name`,
        `t1`.`session_id`,
        `t1`.`product_id`,
        `t1`.`query`,
        `t1`.`results_count`,
        `t1`.`channel`,
        CAST(UNIX_SECONDS(TIMESTAMP_TRUNC(`t1`.`occurred_at`, SECOND)) AS INT64) AS `second`,
        1781481600 - CAST(UNIX_SECONDS(TIMESTAMP_TRUNC(`t1`.`occurred_at`, SECOND)) AS INT64) AS `age`
      FROM `events` AS `t1`
      WHERE
        `t1`.`customer_id` IS NOT NULL
        AND `t1`.`occurred_at` <= TIMESTAMP('2026-06-15T00:00:00+00:00')
    ) AS `t38`
    GROUP BY
      1
  ) AS `t71`
    ON `t75`.`customer_id` = `t71`.`events_of`
  LEFT OUTER JOIN (
    SELECT
      `t96`.`customer_id` AS `interests_of`,
      ieee_divide(
        CAST(SUM(`t96`.`price`) AS FLOAT64),
        NULLIF(CAST(SUM(`t96`.`usual_price`) AS FLOAT64), 0.0)
      ) AS `viewed_price_level_90d`,
      CAST(SUM(`t96`.`products`) AS FLOAT64) AS `distinct_products_viewed_90d`,
      CAST(COUNT(`t96`.`category`) AS FLOAT64) AS `distinct_categories_viewed_90d`,
      ieee_divide(
        CAST(MAX(IF(`t96`.`category` IS NOT NULL, `t96`.`views`, NULL)) AS FLOAT64),
        NULLIF(CAST(SUM(IF(`t96`.`category` IS NOT NULL, `t96`.`views`, NULL)) AS FLOAT64), 0.0)
      ) AS `top_category_viewed_share_90d`,
      ieee_divide(
        CAST(SUM(`t96`.`views`) AS FLOAT64),
        NULLIF(CAST(SUM(`t96`.`products`) AS FLOAT64), 0.0)
      ) AS `views_per_product_90d`
    FROM (
      SELECT
        `t89`.`customer_id`,
        `t89`.`category`,
        SUM(`t89`.`views`) AS `views`,
        COUNT(*) AS `products`,
        SUM(`t89`.`views` * `t89`.`price`) AS `price`,
        SUM(`t89`.`views` * `t89`.`usual_price`) AS `usual_price`
      FROM (
        SELECT
          `t86`.*
          EXCEPT (`product_id_right`)
        FROM (
          SELECT
            `t58`.`customer_id`,
            `t58`.`product_id`,
            `t58`.`views`,
            `t78`.`product_id` AS `product_id_right`,
            `t78`.`category`,
            `t78`.`price`,
            `t78`.`usual_price`
          FROM (
            SELECT
              `t46`.`customer_id`,
              `t46`.`product_id`,
              COUNT(*) AS `views`
            FROM (
              SELECT
                `t1`.`customer_id`,
                `t1`.`event_name`,
                `t1`.`session_id`,
                `t1`.`product_id`,
                `t1`.`query`,
                `t1`.`results_count`,
                `t1`.`channel`,
                CAST(UNIX_SECONDS(TIMESTAMP_TRUNC(`t1`.`occurred_at`, SECOND)) AS INT64) AS `second`,
                1781481600 - CAST(UNIX_SECONDS(TIMESTAMP_TRUNC(`t1`.`occurred_at`, SECOND)) AS INT64) AS `age`
              FROM `events` AS `t1`
              WHERE
                `t1`.`customer_id` IS NOT NULL
                AND `t1`.`occurred_at` <= TIMESTAMP('2026-06-15T00:00:00+00:00')
                AND `t1`.`event_name` = 'view_item'
                AND (
                  1781481600 - CAST(UNIX_SECONDS(TIMESTAMP_TRUNC(`t1`.`occurred_at`, SECOND)) AS INT64)
                ) < 7776000
                AND `t1`.`product_id` IS NOT NULL
            ) AS `t46`
            GROUP BY
              1,
              2
          ) AS `t58`
          LEFT OUTER JOIN `t70` AS `t78`
            ON `t58`.`product_id` = `t78`.`product_id`
        ) AS `t86`
      ) AS `t89`
      GROUP BY
        1,
        2
    ) AS `t96`
    GROUP BY
      1
  ) AS `t108`
    ON `t75`.`customer_id` = `t108`.`interests_of`
  LEFT OUTER JOIN (
    SELECT
      `t65`.`customer_id` AS `sessions_of`,
      CAST(COUNTIF(`t65`.`age` < 2592000) AS FLOAT64) AS `sessions_30d`,
      CAST(COUNT(*) AS FLOAT64) AS `sessions_90d`,
      CAST(COUNT(
        DISTINCT CAST(FLOOR(ieee_divide(CAST(`t65`.`age` AS FLOAT64), NULLIF(CAST(86400 AS FLOAT64), 0.0))) AS INT64)
      ) AS FLOAT64) AS `session_days_90d`,
      ieee_divide(CAST(SUM(`t65`.`events`) AS FLOAT64), NULLIF(CAST(COUNT(*) AS FLOAT64), 0.0)) AS `events_per_session_90d`,
      ieee_divide(CAST(SUM(`t65`.`length`) AS FLOAT64), NULLIF(CAST(COUNT(*) * 60 AS FLOAT64), 0.0)) AS `minutes_per_session_90d`,
      ieee_divide(
        CAST(COUNTIF(`t65`.`events` = 1) AS FLOAT64),
        NULLIF(CAST(COUNT(*) AS FLOAT64), 0.0)
      ) AS `single_event_share_90d`,
      ieee_divide(
        CAST(COUNTIF((
          `t65`.`carted` = 1
        ) AND (
          `t65`.`viewed` = 1
        )) AS FLOAT64),
        NULLIF(CAST(COUNTIF(`t65`.`viewed` = 1) AS FLOAT64), 0.0)
      ) AS `view_to_cart_90d`,
      ieee_divide(
        CAST(COUNTIF((
          `t65`.`checked_out` = 1
        ) AND (
          `t65`.`carted` = 1
        )) AS FLOAT64),
        NULLIF(CAST(COUNTIF(`t65`.`carted` = 1) AS FLOAT64), 0.0)
      ) AS `cart_to_checkout_90d`,
      ieee_divide(
        CAST(COUNTIF((
          `t65`.`purchased` = 1
        ) AND (
          `t65`.`checked_out` = 1
        )) AS FLOAT64),
        NULLIF(CAST(COUNTIF(`t65`.`checked_out` = 1) AS FLOAT64), 0.0)
      ) AS `checkout_to_purchase_90d`,
      ieee_divide(
        CAST(COUNTIF((
          `t65`.`purchased` = 0
        ) AND (
          `t65`.`carted` = 1
        )) AS FLOAT64),
        NULLIF(CAST(COUNTIF(`t65`.`carted` = 1) AS FLOAT64), 0.0)
      ) AS `cart_abandonment_90d`,
      ieee_divide(
        CAST(COUNTIF(`t65`.`searched` = 1) AS FLOAT64),
        NULLIF(CAST(COUNT(*) AS FLOAT64), 0.0)
      ) AS `search_session_share_90d`
    FROM (
      SELECT
        `t45`.`customer_id`,
        `t45`.`session_id`,
        MIN(`t45`.`age`) AS `age`,
        MAX(`t45`.`age`) - MIN(`t45`.`age`) AS `length`,
        COUNT(*) AS `events`,
        MAX(CAST(IF(COALESCE(`t45`.`event_name` = 'view_item', FALSE), 1, 0) AS INT64)) AS `viewed`,
        MAX(CAST(IF(COALESCE(`t45`.`event_name` = 'search', FALSE), 1, 0) AS INT64)) AS `searched`,
        MAX(CAST(IF(COALESCE(`t45`.`event_name` = 'add_to_cart', FALSE), 1, 0) AS INT64)) AS `carted`,
        MAX(CAST(IF(COALESCE(`t45`.`event_name` = 'begin_checkout', FALSE), 1, 0) AS INT64)) AS `checked_out`,
        MAX(CAST(IF(COALESCE(`t45`.`event_name` = 'purchase', FALSE), 1, 0) AS INT64)) AS `purchased`
      FROM (
        SELECT
          `t1`.`customer_id`,
          `t1`.`event_name`,
          `t1`.`session_id`,
          `t1`.`product_id`,
          `t1`.`query`,
          `t1`.`results_count`,
          `t1`.`channel`,
          CAST(UNIX_SECONDS(TIMESTAMP_TRUNC(`t1`.`occurred_at`, SECOND)) AS INT64) AS `second`,
          1781481600 - CAST(UNIX_SECONDS(TIMESTAMP_TRUNC(`t1`.`occurred_at`, SECOND)) AS INT64) AS `age`
        FROM `events` AS `t1`
        WHERE
          `t1`.`customer_id` IS NOT NULL
          AND `t1`.`occurred_at` <= TIMESTAMP('2026-06-15T00:00:00+00:00')
          AND `t1`.`session_id` IS NOT NULL
          AND (
            1781481600 - CAST(UNIX_SECONDS(TIMESTAMP_TRUNC(`t1`.`occurred_at`, SECOND)) AS INT64)
          ) < 7776000
      ) AS `t45`
      GROUP BY
        1,
        2
    ) AS `t65`
    GROUP BY
      1
  ) AS `t91`
    ON `t75`.`customer_id` = `t91`.`sessions_of`
  LEFT OUTER JOIN (
    SELECT
      `t22`.`customer_id` AS `devices_of`,
      CAST(COUNTIF(`t22`.`platform` = 'ios') AS FLOAT64) AS `ios_devices`,
      CAST(COUNTIF(`t22`.`platform` = 'android') AS FLOAT64) AS `android_devices`,
      CAST(COUNTIF(`t22`.`platform` = 'web') AS FLOAT64) AS `web_devices`,
      CAST(COUNTIF(`t22`.`push`) AS FLOAT64) AS `push_devices`
    FROM (
      SELECT
        `t2`.`customer_id`,
        `t2`.`platform`,
        `t2`.`push_token` IS NOT NULL AS `push`
      FROM `devices` AS `t2`
      WHERE
        `t2`.`customer_id` IS NOT NULL
    ) AS `t22`
    GROUP BY
      1
  ) AS `t57`
    ON `t75`.`customer_id` = `t57`.`devices_of`
  LEFT OUTER JOIN (
    SELECT
      `t103`.`customer_id` AS `habits_of`,
      ieee_divide(
        CAST(COUNTIF((
          `t103`.`clock` >= 0
        ) AND (
          `t103`.`clock` < 21600
        )) AS FLOAT64),
        NULLIF(CAST(COUNT(*) AS FLOAT64), 0.0)
      ) AS `night_share_90d`,
      ieee_divide(
        CAST(COUNTIF((
          `t103`.`clock` >= 21600
        ) AND (
          `t103`.`clock` < 43200
        )) AS FLOAT64),
        NULLIF(CAST(COUNT(*) AS FLOAT64), 0.0)
      ) AS `morning_share_90d`,
      ieee_divide(
        CAST(COUNTIF((
          `t103`.`clock` >= 43200
        ) AND (
          `t103`.`clock` < 64800
        )) AS FLOAT64),
        NULLIF(CAST(COUNT(*) AS FLOAT64), 0.0)
      ) AS `afternoon_share_90d`,
      ieee_divide(
        CAST(COUNTIF((
          `t103`.`clock` >= 64800
        ) AND (
          `t103`.`clock` < 86400
        )) AS FLOAT64),
        NULLIF(CAST(COUNT(*) AS FLOAT64), 0.0)
      ) AS `evening_share_90d`,
      ieee_divide(CAST(SUM(`t103`.`weekend`) AS FLOAT64), NULLIF(CAST(COUNT(*) AS FLOAT64), 0.0)) AS `weekend_event_share_90d`
    FROM (
      SELECT
        `t83`.`customer_id`,
        MOD(`t83`.`local_second`, 86400) AS `clock`,
        CAST(IF(
          COALESCE(
            (
              MOD(
                CAST(FLOOR(
                  ieee_divide(CAST(`t83`.`local_second` AS FLOAT64), NULLIF(CAST(86400 AS FLOAT64), 0.0))
                ) AS INT64) + 3,
                7
              )
            ) >= 5,
            FALSE
          ),
          1,
          0
        ) AS INT64) AS `weekend`
      FROM (
        SELECT
          `t77`.`customer_id`,
          `t77`.`second`,
          `t77`.`zone`,
          `t77`.`second` + `t16`.`offset` AS `local_second`
        FROM (
          SELECT
            `t60`.`customer_id`,
            `t60`.`second`,
            COALESCE(`t60`.`zone`, 'UTC') AS `zone`
          FROM (
            SELECT
              `t53`.`customer_id`,
              `t53`.`second`,
              `t34`.`customer_id` AS `customer_id_right`,
              `t34`.`zone`
            FROM (
              SELECT
                `t1`.`customer_id`,
                CAST(UNIX_SECONDS(TIMESTAMP_TRUNC(`t1`.`occurred_at`, SECOND)) AS INT64) AS `second`
              FROM `events` AS `t1`
              WHERE
                `t1`.`customer_id` IS NOT NULL
                AND `t1`.`occurred_at` <= TIMESTAMP('2026-06-15T00:00:00+00:00')
                AND (
                  1781481600 - CAST(UNIX_SECONDS(TIMESTAMP_TRUNC(`t1`.`occurred_at`, SECOND)) AS INT64)
                ) < 7776000
                AND CAST(UNIX_SECONDS(TIMESTAMP_TRUNC(`t1`.`occurred_at`, SECOND)) AS INT64) >= 1749859200
            ) AS `t53`
            LEFT OUTER JOIN (
              SELECT
                `t5`.`customer_id`,
                IF(
                  `t5`.`timezone` IN ('Asia/Seoul', 'Europe/London'),
                  `t5`.`timezone`,
                  CASE `t5`.`country` WHEN 'GB' THEN 'Europe/London' ELSE 'UTC' END
                ) AS `zone`
              FROM `customers` AS `t5`
            ) AS `t34`
              ON `t53`.`customer_id` = `t34`.`customer_id`
          ) AS `t60`
        ) AS `t77`
        INNER JOIN `small_table_2` AS `t16`
          ON `t77`.`zone` = `t16`.`offset_zone`
          AND `t77`.`second` >= `t16`.`offset_from`
          AND `t77`.`second` < `t16`.`offset_until`
      ) AS `t83`
    ) AS `t103`
    GROUP BY
      1
  ) AS `t111`
    ON `t75`.`customer_id` = `t111`.`habits_of`
  LEFT OUTER JOIN (
    SELECT
      `t143`.`customer_id` AS `local_orders_of`,
      ieee_divide(CAST(SUM(`t143`.`weekend`) AS FLOAT64), NULLIF(CAST(COUNT(*) AS FLOAT64), 0.0)) AS `weekend_share`,
      ieee_divide(CAST(SUM(`t143`.`holiday`) AS FLOAT64), NULLIF(CAST(COUNT(*) AS FLOAT64), 0.0)) AS `holiday_order_share`,
      ieee_divide(CAST(SUM(`t143`.`gift_time`) AS FLOAT64), NULLIF(CAST(COUNT(*) AS FLOAT64), 0.0)) AS `festival_order_share`
    FROM (
      SELECT
        `t140`.`customer_id`,
        CAST(IF(
          COALESCE(
            (
              MOD(
                CAST(FLOOR(
                  ieee_divide(CAST(`t140`.`local_second` AS FLOAT64), NULLIF(CAST(86400 AS FLOAT64), 0.0))
                ) AS INT64) + 3,
                7
              )
            ) >= 5,
            FALSE
          ),
          1,
          0
        ) AS INT64) AS `weekend`,
        COALESCE(`t15`.`holiday`, 0) AS `holiday`,
        COALESCE(`t15`.`gift_time`, 0) AS `gift_time`
      FROM (
        SELECT
          `t138`.`customer_id`,
          `t138`.`second`,
          `t138`.`zone`,
          `t138`.`local_second`,
          COALESCE(`t138`.`country`, 'KR') AS `country`,
          CAST(FLOOR(
            ieee_divide(CAST(`t138`.`local_second` AS FLOAT64), NULLIF(CAST(86400 AS FLOAT64), 0.0))
          ) AS INT64) AS `day`
        FROM (
          SELECT
            `t137`.*
            EXCEPT (`customer_id_right`)
          FROM (
            SELECT
              `t133`.`customer_id`,
              `t133`.`second`,
              `t133`.`zone`,
              `t133`.`second` + `t17`.`offset` AS `local_second`,
              `t23`.`customer_id` AS `customer_id_right`,
              `t23`.`country`
            FROM (
              SELECT
                `t130`.`customer_id`,
                `t130`.`second`,
                COALESCE(`t130`.`zone`, 'UTC') AS `zone`
              FROM (
                SELECT
                  `t127`.`customer_id`,
                  `t127`.`second`,
                  `t34`.`customer_id` AS `customer_id_right`,
                  `t34`.`zone`
                FROM (
                  SELECT
                    `t123`.`customer_id`,
                    `t123`.`second`
                  FROM `t122` AS `t123`
                  WHERE
                    `t123`.`second` >= 1749859200
                ) AS `t127`
                LEFT OUTER JOIN (
                  SELECT
                    `t5`.`customer_id`,
                    IF(
                      `t5`.`timezone` IN ('Asia/Seoul', 'Europe/London'),
                      `t5`.`timezone`,
                      CASE `t5`.`country` WHEN 'GB' THEN 'Europe/London' ELSE 'UTC' END
                    ) AS `zone`
                  FROM `customers` AS `t5`
                ) AS `t34`
                  ON `t127`.`customer_id` = `t34`.`customer_id`
              ) AS `t130`
            ) AS `t133`
            INNER JOIN `small_table_3` AS `t17`
              ON `t133`.`zone` = `t17`.`offset_zone`
              AND `t133`.`second` >= `t17`.`offset_from`
              AND `t133`.`second` < `t17`.`offset_until`
            LEFT OUTER JOIN (
              SELECT
                `t5`.`customer_id`,
                `t5`.`country`
              FROM `customers` AS `t5`
            ) AS `t23`
              ON `t133`.`customer_id` = `t23`.`customer_id`
          ) AS `t137`
        ) AS `t138`
      ) AS `t140`
      LEFT OUTER JOIN `small_table_4` AS `t15`
        ON `t140`.`country` = `t15`.`holiday_country` AND `t140`.`day` = `t15`.`holiday_day`
    ) AS `t143`
    GROUP BY
      1
  ) AS `t145`
    ON `t75`.`customer_id` = `t145`.`local_orders_of`
  LEFT OUTER JOIN (
    SELECT
      `t112`.`customer_id` AS `messages_of`,
      CAST(COUNT(DISTINCT IF((
        `t112`.`age` < 604800
      ) AND TRUE, `t112`.`message_id`, NULL)) AS FLOAT64) AS `messages_7d`,
      CAST(COUNT(DISTINCT IF((
        `t112`.`age` < 2592000
      ) AND TRUE, `t112`.`message_id`, NULL)) AS FLOAT64) AS `messages_30d`,
      CAST(COUNT(DISTINCT IF((
        `t112`.`age` < 7776000
      ) AND TRUE, `t112`.`message_id`, NULL)) AS FLOAT64) AS `messages_90d`,
      CAST(COUNT(
        DISTINCT IF(
          (
            `t112`.`age` < 2592000
          ) AND (
            `t112`.`channel` = 'email'
          ),
          `t112`.`message_id`,
          NULL
        )
      ) AS FLOAT64) AS `emails_30d`,
      CAST(COUNT(
        DISTINCT IF(
          (
            `t112`.`age` < 2592000
          ) AND (
            `t112`.`channel` = 'push'
          ),
          `t112`.`message_id`,
          NULL
        )
      ) AS FLOAT64) AS `pushes_30d`,
      ieee_divide(CAST(MIN(`t112`.`age`) AS FLOAT64), NULLIF(CAST(86400 AS FLOAT64), 0.0)) AS `days_since_last_message`,
      ieee_divide(
        CAST(COUNT(
          DISTINCT IF((
            `t112`.`age` < 7776000
          ) AND `t112`.`clicked`, `t112`.`message_id`, NULL)
        ) + 1 AS FLOAT64),
        NULLIF(
          CAST(IF(
            COUNT(DISTINCT IF(`t112`.`age` < 7776000, `t112`.`message_id`, NULL)) > 0,
            COUNT(DISTINCT IF(`t112`.`age` < 7776000, `t112`.`message_id`, NULL)) + 30,
            0
          ) AS FLOAT64),
          0.0
        )
      ) AS `click_rate`,
      CAST(COUNT(DISTINCT IF(`t112`.`after_click`, `t112`.`message_id`, NULL)) AS FLOAT64) AS `messages_since_last_click`,
      CAST(COUNT(DISTINCT IF(`t112`.`after_answer`, `t112`.`message_id`, NULL)) AS FLOAT64) AS `messages_unanswered`
    FROM (
      SELECT
        `t73`.`customer_id`,
        `t73`.`message_id`,
        `t73`.`channel`,
        `t73`.`age`,
        COALESCE(`t107`.`clicked`, 0) = 1 AS `clicked`,
        (
          MIN(`t107`.`last_click`) OVER (
            PARTITION BY `t73`.`customer_id`
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
          ) IS NULL
        )
        OR (
          `t73`.`age` < MIN(`t107`.`last_click`) OVER (
            PARTITION BY `t73`.`customer_id`
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
          )
        ) AS `after_click`,
        (
          MIN(IF(`t107`.`answered_id` IS NOT NULL, `t73`.`age`, NULL)) OVER (
            PARTITION BY `t73`.`customer_id`
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
          ) IS NULL
        )
        OR (
          `t73`.`age` < MIN(IF(`t107`.`answered_id` IS NOT NULL, `t73`.`age`, NULL)) OVER (
            PARTITION BY `t73`.`customer_id`
            ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING
          )
        ) AS `after_answer`
      FROM (
        SELECT
          `t4`.`customer_id`,
          `t4`.`message_id`,
          `t4`.`channel`,
          1781481600 - CAST(UNIX_SECONDS(TIMESTAMP_TRUNC(`t4`.`sent_at`, SECOND)) AS INT64) AS `age`
        FROM `messages_history` AS `t4`
        WHERE
          `t4`.`sent_at` <= TIMESTAMP('2026-06-15T00:00:00+00:00')
          AND NOT (
            COALESCE(
              REPLACE(
                REPLACE(
                  REPLACE(
                    REPLACE(REPLACE(REPLACE(LOWER(`t4`.`treatment`), ' ', ''), '-', ''), '_', ''),
                    '.',
                    ''
                  ),
                  ':',
                  ''
                ),
                '/',
                ''
              ) IN (
                '0',
                'control',
                'controlgroup',
                'false',
                'globalholdout',
                'holdout',
                'no',
                'nocontact',
                'noemail',
                'nomail',
                'nomessage',
                'none',
                'nopush',
                'nosend',
                'nothing',
                'notreatment',
                'untreated'
              ),
              FALSE
            )
            OR COALESCE(
              (
                `t4`.`treatment` IS NULL
              )
              AND REPLACE(
                REPLACE(
                  REPLACE(REPLACE(REPLACE(REPLACE(LOWER(`t4`.`variant`), ' ', ''), '-', ''), '_', ''), '.', ''),
                  ':',
                  ''
                ),
                '/',
                ''
              ) IN (
                'globalholdout',
                'holdout',
                'nocontact',
                'noemail',
                'nomail',
                'nomessage',
                'nopush',
                'nosend',
                'nothing',
                'notreatment',
                'untreated'
              ),
              FALSE
            )
          )
      ) AS `t73`
      LEFT OUTER JOIN (
        SELECT
          `t101`.`clicked`,
          `t101`.`last_click`,
          `t101`.`message_id` AS `answered_id`
        FROM (
          SELECT
            `t94`.`message_id`,
            MAX(CAST(IF(COALESCE(`t94`.`event` = 'clicked', FALSE), 1, 0) AS INT64)) AS `clicked`,
            MIN(IF(`t94`.`event` = 'clicked', `t94`.`age`, NULL)) AS `last_click`
          FROM (
            SELECT
              *
            FROM `t80` AS `t84`
            WHERE
              `t84`.`event` IN ('opened', 'clicked')
          ) AS `t94`
          GROUP BY
            1
        ) AS `t101`
      ) AS `t107`
        ON `t73`.`message_id` = `t107`.`answered_id`
    ) AS `t112`
    GROUP BY
      1
  ) AS `t119`
    ON `t75`.`customer_id` = `t119`.`messages_of`
  LEFT OUTER JOIN (
    SELECT
      `t84`.`customer_id` AS `reactions_of`,
      CAST(COUNT(
        DISTINCT IF(
          (
            `t84`.`event` = 'opened'
          ) AND (
            `t84`.`age` < 2592000
          ),
          `t84`.`message_id`,
          NULL
        )
      ) AS FLOAT64) AS `opens_30d`,
      CAST(COUNT(
        DISTINCT IF(
          (
            `t84`.`event` = 'clicked'
          ) AND (
            `t84`.`age` < 2592000
          ),
          `t84`.`message_id`,
          NULL
        )
      ) AS FLOAT64) AS `clicks_30d`,
      CAST(COUNT(
        DISTINCT IF(
          (
            `t84`.`event` = 'clicked'
          ) AND (
            `t84`.`age` < 7776000
          ),
          `t84`.`message_id`,
          NULL
        )
      ) AS FLOAT64) AS `clicks_90d`,
      ieee_divide(
        CAST(MIN(IF(`t84`.`event` = 'clicked', `t84`.`age`, NULL)) AS FLOAT64),
        NULLIF(CAST(86400 AS FLOAT64), 0.0)
      ) AS `days_since_last_click`,
      CAST(COUNT(
        DISTINCT IF(
          (
            `t84`.`event` = 'unsubscribed'
          ) AND (
            `t84`.`age` < 7776000
          ),
          `t84`.`message_id`,
          NULL
        )
      ) AS FLOAT64) AS `unsubscribed_90d`,
      CAST(COUNT(
        DISTINCT IF(
          (
            `t84`.`event` = 'complained'
          ) AND (
            `t84`.`age` < 7776000
          ),
          `t84`.`message_id`,
          NULL
        )
      ) AS FLOAT64) AS `complaints_90d`
    FROM `t80` AS `t84`
    GROUP BY
      1
  ) AS `t98`
    ON `t75`.`customer_id` = `t98`.`reactions_of`
  LEFT OUTER JOIN (
    SELECT
      `t69`.`customer_id` AS `customers_of`,
      ieee_divide(CAST(MAX(`t69`.`age`) AS FLOAT64), NULLIF(CAST(86400 AS FLOAT64), 0.0)) AS `days_since_signup`,
      MAX(`t69`.`points`) AS `points`
    FROM (
      SELECT
        `t61`.`customer_id`,
        `t61`.`points`,
        `t61`.`age`
      FROM `t59` AS `t61`
    ) AS `t69`
    GROUP BY
      1
  ) AS `t85`
    ON `t75`.`customer_id` = `t85`.`customers_of`
  LEFT OUTER JOIN (
    SELECT
      `t99`.`customer_id` AS `surroundings_of`,
      MAX(`t99`.`days_to_holiday`) AS `days_to_holiday`,
      MAX(`t99`.`days_to_festival`) AS `days_to_festival`,
      MAX(`t99`.`weather`) AS `weather`,
      MAX(`t99`.`temperature`) AS `temperature`,
      MAX(`t99`.`precipitation`) AS `precipitation`
    FROM (
      SELECT
        `t95`.`customer_id`,
        `t35`.`days_to_holiday`,
        `t35`.`days_to_festival`,
        COALESCE(`t55`.`near_weather`, `t43`.`weather`) AS `weather`,
        COALESCE(`t55`.`near_temperature`, `t43`.`temperature`) AS `temperature`,
        COALESCE(`t55`.`near_precipitation`, `t43`.`precipitation`) AS `precipitation`
      FROM (
        SELECT
          `t81`.`customer_id`,
          COALESCE(`t81`.`country`, 'KR') AS `country`,
          `t81`.`home_store`
        FROM (
          SELECT
            `t75`.`customer_id`,
            `t24`.`customer_id` AS `customer_id_right`,
            `t24`.`country`,
            `t24`.`home_store`
          FROM (
            SELECT
              `t61`.`customer_id`
            FROM `t59` AS `t61`
          ) AS `t75`
          LEFT OUTER JOIN (
            SELECT
              `t5`.`customer_id`,
              `t5`.`country`,
              `t5`.`home_store`
            FROM `customers` AS `t5`
          ) AS `t24`
            ON `t75`.`customer_id` = `t24`.`customer_id`
        ) AS `t81`
      ) AS `t95`
      LEFT OUTER JOIN (
        SELECT
          `t8`.`day_country`,
          MAX(IF(`t8`.`name` = 'days_to_holiday', `t8`.`value`, NULL)) AS `days_to_holiday`,
          MAX(IF(`t8`.`name` = 'days_to_festival', `t8`.`value`, NULL)) AS `days_to_festival`
        FROM `small_table_5` AS `t8`
        GROUP BY
          1
      ) AS `t35`
        ON `t95`.`country` = `t35`.`day_country`
      LEFT OUTER JOIN `t32` AS `t43`
        ON `t95`.`country` = `t43`.`region`
      LEFT OUTER JOIN (
        SELECT
          `t37`.`region` AS `near_region`,
          `t37`.`weather` AS `near_weather`,
          `t37`.`temperature` AS `near_temperature`,
          `t37`.`precipitation` AS `near_precipitation`
        FROM `t32` AS `t37`
      ) AS `t55`
        ON `t95`.`home_store` = `t55`.`near_region`
    ) AS `t99`
    GROUP BY
      1
  ) AS `t104`
    ON `t75`.`customer_id` = `t104`.`surroundings_of`
) AS `t146`
WHERE
  `t146`.`orders_90d` >= 1.0
  AND (
    CASE
      WHEN `t146`.`days_since_last_order` IS NULL
      THEN 'prospect'
      WHEN (
        `t146`.`purchase_days` = 1
      ) AND (
        `t146`.`days_since_last_order` <= 30.0
      )
      THEN 'new'
      WHEN `t146`.`days_since_last_order` <= IF(
        `t146`.`purchase_days` >= 3,
        IF(
          IF(
            (
              `t146`.`mean_gap_days` * 2.0
            ) IS NULL,
            `t146`.`mean_gap_days` * 2.0,
            LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
          ) IS NULL,
          IF(
            (
              `t146`.`mean_gap_days` * 2.0
            ) IS NULL,
            `t146`.`mean_gap_days` * 2.0,
            LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
          ),
          GREATEST(
            30.0,
            IF(
              (
                `t146`.`mean_gap_days` * 2.0
              ) IS NULL,
              `t146`.`mean_gap_days` * 2.0,
              LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
            )
          )
        ),
        60.0
      )
      THEN 'active'
      WHEN `t146`.`days_since_last_order` <= (
        IF(
          `t146`.`purchase_days` >= 3,
          IF(
            IF(
              (
                `t146`.`mean_gap_days` * 2.0
              ) IS NULL,
              `t146`.`mean_gap_days` * 2.0,
              LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
            ) IS NULL,
            IF(
              (
                `t146`.`mean_gap_days` * 2.0
              ) IS NULL,
              `t146`.`mean_gap_days` * 2.0,
              LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
            ),
            GREATEST(
              30.0,
              IF(
                (
                  `t146`.`mean_gap_days` * 2.0
                ) IS NULL,
                `t146`.`mean_gap_days` * 2.0,
                LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
              )
            )
          ),
          60.0
        ) * 3.0
      )
      THEN 'lapsing'
      ELSE 'lost'
    END IN ('active')
    OR (
      CASE
        WHEN `t146`.`days_since_last_order` IS NULL
        THEN 'prospect'
        WHEN (
          `t146`.`purchase_days` = 1
        ) AND (
          `t146`.`days_since_last_order` <= 30.0
        )
        THEN 'new'
        WHEN `t146`.`days_since_last_order` <= IF(
          `t146`.`purchase_days` >= 3,
          IF(
            IF(
              (
                `t146`.`mean_gap_days` * 2.0
              ) IS NULL,
              `t146`.`mean_gap_days` * 2.0,
              LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
            ) IS NULL,
            IF(
              (
                `t146`.`mean_gap_days` * 2.0
              ) IS NULL,
              `t146`.`mean_gap_days` * 2.0,
              LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
            ),
            GREATEST(
              30.0,
              IF(
                (
                  `t146`.`mean_gap_days` * 2.0
                ) IS NULL,
                `t146`.`mean_gap_days` * 2.0,
                LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
              )
            )
          ),
          60.0
        )
        THEN 'active'
        WHEN `t146`.`days_since_last_order` <= (
          IF(
            `t146`.`purchase_days` >= 3,
            IF(
              IF(
                (
                  `t146`.`mean_gap_days` * 2.0
                ) IS NULL,
                `t146`.`mean_gap_days` * 2.0,
                LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
              ) IS NULL,
              IF(
                (
                  `t146`.`mean_gap_days` * 2.0
                ) IS NULL,
                `t146`.`mean_gap_days` * 2.0,
                LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
              ),
              GREATEST(
                30.0,
                IF(
                  (
                    `t146`.`mean_gap_days` * 2.0
                  ) IS NULL,
                  `t146`.`mean_gap_days` * 2.0,
                  LEAST(120.0, `t146`.`mean_gap_days` * 2.0)
                )
              )
            ),
            60.0
          ) * 3.0
        )
        THEN 'lapsing'
        ELSE 'lost'
      END IS NULL
    )
  )
ORDER BY
  `t146`.`customer_id` ASC NULLS LAST
